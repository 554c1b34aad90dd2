#include "server/engine/geo_arguments.h"

#include <fmt/format.h>

#include <cmath>

#include "server/base/strings.h"

namespace cairn {

Status ParseGeoPoint(const CommandContext& ctx, size_t i, GeoPoint* out) {
  if (!ParseDouble(ctx.arg(i), &out->longitude) || !ParseDouble(ctx.arg(i + 1), &out->latitude))
    return RespError(resp_errors::kNotFloat);
  if (std::fabs(out->longitude) > kGeoMaxLongitude || std::fabs(out->latitude) > kGeoMaxLatitude) {
    return Status::Client(fmt::format("ERR invalid longitude,latitude pair {:f},{:f}",
                                      out->longitude, out->latitude));
  }
  return Status::Ok();
}

Status ParseGeoUnit(const CommandContext& ctx, size_t i, double* metres_per_unit) {
  constexpr std::pair<std::string_view, double> kUnits[] = {
      {"m", 1}, {"km", 1000}, {"ft", 0.3048}, {"mi", 1609.34}};
  for (const auto& [word, metres] : kUnits) {
    if (!ctx.ArgIs(i, word)) continue;
    *metres_per_unit = metres;
    return Status::Ok();
  }
  return Status::Client("ERR unsupported unit provided. please use M, KM, FT, MI");
}

Status ParseGeoLength(const CommandContext& ctx, size_t i, std::string_view not_a_number,
                      std::string_view negative, double* out) {
  if (!ParseDouble(ctx.arg(i), out)) return RespError(not_a_number);
  return *out < 0 ? RespError(negative) : Status::Ok();
}

void ReplyDistance(RespWriter& reply, double distance) {
  reply.Bulk(fmt::format("{:.4f}", distance));
}

void ReplyPoint(RespWriter& reply, GeoPoint point) {
  reply.ArrayHeader(2);
  reply.DoubleText(FormatLongDouble(point.longitude));
  reply.DoubleText(FormatLongDouble(point.latitude));
}

}  // namespace cairn
