// Configs of the infinity-former: the three foreign kinds, what a pickled module carries, and ours.
#pragma once

#include "models/infinite_former.h"

namespace tern {

inline constexpr std::string_view kInfiniteFormerName = "infinite-former";

bool RecognizesInfiniteFormer(const Json& foreign_config);
// Checked: whatever it gives can be built, and its tables made in bounded time.
Result<InfiniteFormerConfig> ReadInfiniteFormerConfig(const Json& config, const std::vector<ForeignTensor>& checkpoint);
Json WriteInfiniteFormerConfig(const InfiniteFormerConfig& config);

}  // namespace tern
