#pragma once

// The arguments and replies that the geo commands share. Thread: executor.

#include "server/data/geohash.h"
#include "server/engine/command_context.h"

namespace cairn {

/// arg(i), arg(i + 1) as longitude and latitude. Errors: not a float, or outside the limits.
Status ParseGeoPoint(const CommandContext& ctx, size_t i, GeoPoint* out);
/// arg(i) as m, km, ft or mi. Errors: any other word.
Status ParseGeoUnit(const CommandContext& ctx, size_t i, double* metres_per_unit);
/// arg(i) as a number that is not negative. Errors: `not_a_number`, `negative`.
Status ParseGeoLength(const CommandContext& ctx, size_t i, std::string_view not_a_number,
                      std::string_view negative, double* out);
/// Four decimals, as a bulk string.
void ReplyDistance(RespWriter& reply, double distance);
/// Longitude and latitude.
void ReplyPoint(RespWriter& reply, GeoPoint point);

}  // namespace cairn
