#include "formats/pickle_names.h"

#include <algorithm>
#include <array>

namespace tern {
namespace {

struct Name {
  std::string_view module, name;
};
constexpr Name kKnownNames[] = {
    {"collections", "OrderedDict"},
    {"collections", "Counter"},
    {"collections", "defaultdict"},
    {"builtins", "set"},
    {"__builtin__", "set"},
    {"builtins", "frozenset"},
    {"__builtin__", "frozenset"},
    {"builtins", "object"},
    {"__builtin__", "object"},
    {"builtins", "dict"},
    {"__builtin__", "dict"},
    {"builtins", "list"},
    {"__builtin__", "list"},
    {"builtins", "int"},
    {"__builtin__", "int"},
    {"argparse", "Namespace"},
    {"torch._utils", "_rebuild_tensor"},
    {"torch._utils", "_rebuild_tensor_v2"},
    {"torch._utils", "_rebuild_parameter"},
    {"torch.nn.parameter", "Parameter"},
    {"torch", "Size"},
    {"torch", "device"},
    {"torch", "dtype"},
    {"torch", "float32"},
    {"torch", "float64"},
    {"torch", "float16"},
    {"torch", "bfloat16"},
    {"torch", "int64"},
    {"torch", "int32"},
    {"torch", "int16"},
    {"torch", "int8"},
    {"torch", "uint8"},
    {"torch", "bool"},
    {"numpy.core.multiarray", "_reconstruct"},
    {"numpy.core.multiarray", "scalar"},
    {"numpy._core.multiarray", "_reconstruct"},
    {"numpy._core.multiarray", "scalar"},
    {"numpy", "ndarray"},
    {"numpy", "dtype"},
    {"_codecs", "encode"},
};

// Storages: under "torch" and, when saved on a GPU, under "torch.cuda".
constexpr std::string_view kStorageNames[] = {"FloatStorage", "DoubleStorage", "HalfStorage", "BFloat16Storage", "LongStorage",
                                              "IntStorage",   "ShortStorage",  "CharStorage", "ByteStorage",     "BoolStorage"};

// Top-level modules of the Python runtime that can run or load code, or touch files, processes and the net. Nothing here would be executed anyway:
// the refusal tells the user that the file was made to attack somebody.
constexpr std::string_view kCodeModules[] = {
    "__builtin__", "_frozen_importlib", "_io",     "_posixsubprocess", "_thread",   "aifc",      "ast",       "asyncio",  "atexit",      "bdb",
    "builtins",    "cProfile",    "code",              "codeop",  "commands",         "compileall", "ctypes",    "distutils", "ensurepip", "exceptions", "ftplib",
    "functools",   "http",        "httplib",           "imp",     "importlib",        "inspect",   "io",        "linecache", "marshal",  "mmap",        "multiprocessing",
    "nt",          "ntpath",      "operator",          "os",      "pathlib",          "pdb",       "pickle",    "pip",       "pkgutil",  "platform",    "popen2",
    "posix",       "posixpath",   "profile",           "pty",     "py_compile",       "pydoc",     "requests",  "runpy",     "shelve",   "shutil",      "signal",
    "site",        "smtplib",     "socket",            "ssl",     "subprocess",       "sys",       "tempfile",  "test",      "thread",   "threading",   "timeit",
    "trace",       "types",       "urllib",            "urllib2", "venv",             "webbrowser", "xmlrpc",   "zipimport",
};

}  // namespace

PickleName ClassifyPickleName(std::string_view module, std::string_view name) {
  for (const Name& known : kKnownNames)
    if (known.module == module && known.name == name) return PickleName::kKnown;
  if (module == "torch" || module == "torch.cuda")
    for (std::string_view storage : kStorageNames)
      if (storage == name) return PickleName::kKnown;
  const std::string_view top = module.substr(0, module.find('.'));
  for (std::string_view code : kCodeModules)
    if (code == top) return PickleName::kRefused;
  return PickleName::kOpaque;
}

}  // namespace tern
