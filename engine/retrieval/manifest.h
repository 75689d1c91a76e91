// The manifest of a database (manifest.json) and the names of its files. Internal to this room.
#pragma once

#include <cstdint>
#include <string>

#include "engine/retrieval/database.h"

namespace tern {

constexpr const char* kListsName = "/lists.tivf";
constexpr int64_t kMostShares = 1 << 20;
std::string Hex(uint64_t value);              // 16 digits
std::string BlockName(int64_t number);        // "block-000000.tblk"

Json SettingsJson(const DatabaseSettings& settings);
Result<DatabaseSettings> ParseDatabaseSettings(const Json& j);
Json IdentityJson(const DatabaseSettings& settings);   // what blocks of one database have in common
uint64_t MakerOf(const DatabaseSettings& settings);    // its digest

Json NewManifest(const DatabaseSettings& settings, int64_t chunks, int64_t documents, const Json& blocks, const Json& sources);
// kIo without the folder; kMalformed, kDigest.
Result<Json> ReadManifest(const std::string& folder);
Status WriteManifest(const std::string& folder, Json manifest);
Status AmendLockedManifest(const std::string& folder, const Json& members);  // by who holds the lock

// kUsage if the folder holds anything but a database, or what a killed build left: that is somebody's own.
Status CheckNoOtherFiles(const std::string& folder);

// Held as long as it lives, then gone: the lock of an output that is never written. kIo if somebody else has it.
Result<FileWriter> LockDatabase(const std::string& folder, const std::string& name = "lock");

}  // namespace tern
