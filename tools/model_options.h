// Flags that verbs running a model share, and how they become options of the runtime.
#pragma once

#include <memory>
#include <string>

#include "engine/runtime/session.h"
#include "tools/verb.h"

namespace tern {

struct ModelFlags {
  std::string path;
  Settings settings;
  int64_t threads = 0;
  bool verify = false, prefetch = false;
  int64_t expert_memory = 0;

  void Declare(Arguments& args) {
    args.File("MODEL", &path, "a .tern file");
    args.Heading("Model");
    args.Threads(&threads);
    args.Set(&settings);
    args.Flag("--verify", &verify, "check the digests of the weights first");
    args.Bytes("--expert-memory", &expert_memory, "of a mixture of experts: keep at most so many bytes of experts in memory; 0: no bound").ValueName("BYTES");
    args.Flag("--prefetch", &prefetch, "of a mixture of experts: ask for the experts of the previous token ahead");
    args.Heading("Options");
  }
  Result<std::shared_ptr<const Model>> Open(Console& console, const Settings& more = {}) const {
    ModelOptions options;
    options.settings = settings;
    options.settings.insert(options.settings.end(), more.begin(), more.end());
    options.verify = verify;
    options.expert_memory = expert_memory, options.prefetch = prefetch;
    options.log = console.Log();
    return Model::Open(path, options);
  }
};

}  // namespace tern
