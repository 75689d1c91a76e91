// Shares: a build that is split over several runs (DatabaseWriter::Share). Each leaves its blocks and share-I-of-N.json, which says what it made and of what;
// MergeShares makes the database of them, byte for byte the one that a single run would have made.
#pragma once

#include <string>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/status.h"

namespace tern {

struct ShareNote {
  int64_t part = 0, parts = 1;
  Json settings;                                  // as in the manifest
  int64_t chunks = 0, documents = 0, blocks = 0;  // of the whole database
  Json made = Json::object();                     // name of a block: its digest
  Json sources = Json::array();
  std::string lists;                              // still to be built, or empty
};
Status WriteShare(const std::string& folder, const ShareNote& note);

struct MergeReport {
  int64_t shares = 0, blocks = 0, copied = 0;
};
// Notes and blocks stand in `folder` and in the folders `from`; blocks of those are copied. Every block is verified. kUsage if a share is missing, or they were
// made of different texts or with different settings, or if there is a database already (but one that only lacks its lists is made again of its own shares);
// kDigest for a damaged block; kIo while somebody writes to the database.
Result<MergeReport> MergeShares(const std::string& folder, const std::vector<std::string>& from);

// Writes the manifest (`lists`: still to be built), and removes what it does not name: lists of other chunks, blocks beyond `blocks`, notes of shares. The
// caller holds the lock.
Status PublishDatabase(const std::string& folder, Json manifest, int64_t blocks, const std::string& lists);

}  // namespace tern
