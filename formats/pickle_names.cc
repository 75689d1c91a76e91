#include "formats/pickle_names.h"

#include "engine/base/status.h"

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
    {"torch._utils", "_rebuild_parameter_with_state"},
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
constexpr std::string_view kStorageNames[] = {"FloatStorage", "DoubleStorage", "HalfStorage",  "BFloat16Storage",
                                              "LongStorage",  "IntStorage",    "ShortStorage", "CharStorage",
                                              "ByteStorage",  "BoolStorage"};

// Top-level modules of the Python runtime that can run or load code, or touch files, processes and the net. Nothing
// here would be executed anyway: the refusal tells the user that the file was made to attack somebody.
constexpr std::string_view kCodeModules[] = {
    "__builtin__", "_frozen_importlib",
    "_io",         "_posixsubprocess",
    "_thread",     "aifc",
    "ast",         "asyncio",
    "atexit",      "bdb",
    "builtins",    "cProfile",
    "code",        "codeop",
    "commands",    "compileall",
    "ctypes",      "distutils",
    "ensurepip",   "exceptions",
    "ftplib",      "functools",
    "http",        "httplib",
    "imp",         "importlib",
    "inspect",     "io",
    "linecache",   "marshal",
    "mmap",        "multiprocessing",
    "nt",          "ntpath",
    "operator",    "os",
    "pathlib",     "pdb",
    "pickle",      "pip",
    "pkgutil",     "platform",
    "popen2",      "posix",
    "posixpath",   "profile",
    "pty",         "py_compile",
    "pydoc",       "requests",
    "runpy",       "shelve",
    "shutil",      "signal",
    "site",        "smtplib",
    "socket",      "ssl",
    "subprocess",  "sys",
    "tempfile",    "test",
    "thread",      "threading",
    "timeit",      "trace",
    "types",       "urllib",
    "urllib2",     "venv",
    "webbrowser",  "xmlrpc",
    "zipimport",
};

// All opcodes of the format by name, for messages. Which of them are understood: PickleMachine::Step.
struct Opcode {
  char code;
  std::string_view name;
};
constexpr Opcode kOpcodes[] = {
    {'\x80', "PROTO"},
    {'.', "STOP"},
    {'(', "MARK"},
    {'0', "POP"},
    {'1', "POP_MARK"},
    {'N', "NONE"},
    {'\x88', "NEWTRUE"},
    {'\x89', "NEWFALSE"},
    {'J', "BININT"},
    {'K', "BININT1"},
    {'M', "BININT2"},
    {'\x8a', "LONG1"},
    {'\x8b', "LONG4"},
    {'G', "BINFLOAT"},
    {'X', "BINUNICODE"},
    {'\x8c', "SHORT_BINUNICODE"},
    {'\x8d', "BINUNICODE8"},
    {'T', "BINSTRING"},
    {'U', "SHORT_BINSTRING"},
    {'B', "BINBYTES"},
    {'C', "SHORT_BINBYTES"},
    {'\x8e', "BINBYTES8"},
    {')', "EMPTY_TUPLE"},
    {'t', "TUPLE"},
    {'\x85', "TUPLE1"},
    {'\x86', "TUPLE2"},
    {'\x87', "TUPLE3"},
    {']', "EMPTY_LIST"},
    {'a', "APPEND"},
    {'e', "APPENDS"},
    {'}', "EMPTY_DICT"},
    {'s', "SETITEM"},
    {'u', "SETITEMS"},
    {'\x8f', "EMPTY_SET"},
    {'\x90', "ADDITEMS"},
    {'\x91', "FROZENSET"},
    {'q', "BINPUT"},
    {'r', "LONG_BINPUT"},
    {'h', "BINGET"},
    {'j', "LONG_BINGET"},
    {'\x94', "MEMOIZE"},
    {'c', "GLOBAL"},
    {'\x93', "STACK_GLOBAL"},
    {'R', "REDUCE"},
    {'\x81', "NEWOBJ"},
    {'b', "BUILD"},
    {'Q', "BINPERSID"},
    {'\x95', "FRAME"},
    {'i', "INST"},
    {'o', "OBJ"},
    {'\x92', "NEWOBJ_EX"},
    {'\x82', "EXT1"},
    {'\x83', "EXT2"},
    {'\x84', "EXT4"},
    {'P', "PERSID"},
    {'F', "FLOAT"},
    {'I', "INT"},
    {'L', "LONG"},
    {'S', "STRING"},
    {'V', "UNICODE"},
    {'2', "DUP"},
    {'d', "DICT"},
    {'l', "LIST"},
    {'g', "GET"},
    {'p', "PUT"},
    {'\x96', "BYTEARRAY8"},
    {'\x97', "NEXT_BUFFER"},
    {'\x98', "READONLY_BUFFER"},
};

}  // namespace

std::string PickleOpcodeName(uint8_t code) {
  for (const Opcode& op : kOpcodes)
    if (static_cast<uint8_t>(op.code) == code) return std::string(op.name);
  return Str("number ", static_cast<int>(code));
}

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
