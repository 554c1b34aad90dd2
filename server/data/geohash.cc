#include "server/data/geohash.h"

#include <algorithm>
#include <cmath>

namespace cairn {
namespace {

constexpr double kEarthRadiusMetres = 6372797.560856;
constexpr double kMercatorMetres = 20037726.37;  // half of the projection's width
constexpr double kRadiansPerDegree = M_PI / 180.0;

double Radians(double degrees) { return degrees * kRadiansPerDegree; }
double Degrees(double radians) { return radians / kRadiansPerDegree; }

/// The bits of `half` at the even places.
uint64_t Spread(uint32_t half) {
  uint64_t bits = half;
  bits = (bits | bits << 16) & 0x0000ffff0000ffff;
  bits = (bits | bits << 8) & 0x00ff00ff00ff00ff;
  bits = (bits | bits << 4) & 0x0f0f0f0f0f0f0f0f;
  bits = (bits | bits << 2) & 0x3333333333333333;
  return (bits | bits << 1) & 0x5555555555555555;
}

/// Puts the bits of `low` at the even places and those of `high` at the odd ones.
uint64_t Interleave(uint32_t low, uint32_t high) { return Spread(low) | Spread(high) << 1; }

uint32_t EveryOther(uint64_t bits) {
  bits &= 0x5555555555555555;
  bits = (bits | bits >> 1) & 0x3333333333333333;
  bits = (bits | bits >> 2) & 0x0f0f0f0f0f0f0f0f;
  bits = (bits | bits >> 4) & 0x00ff00ff00ff00ff;
  bits = (bits | bits >> 8) & 0x0000ffff0000ffff;
  return static_cast<uint32_t>(bits | bits >> 16);
}

GeoBits Encode(GeoPoint point, double max_latitude, int step) {
  double latitude = (point.latitude + max_latitude) / (max_latitude + max_latitude);
  double longitude = (point.longitude + kGeoMaxLongitude) / (kGeoMaxLongitude + kGeoMaxLongitude);
  latitude *= static_cast<double>(1ull << step);
  longitude *= static_cast<double>(1ull << step);
  return {Interleave(static_cast<uint32_t>(latitude), static_cast<uint32_t>(longitude)), step};
}

struct Cell {
  GeoPoint min, max;
};

Cell DecodeCell(GeoBits hash) {
  const double latitudes = kGeoMaxLatitude + kGeoMaxLatitude;
  const double longitudes = kGeoMaxLongitude + kGeoMaxLongitude;
  const auto cells = static_cast<double>(1ull << hash.step);
  const auto y = static_cast<double>(EveryOther(hash.bits));
  const auto x = static_cast<double>(EveryOther(hash.bits >> 1));
  Cell cell;
  cell.min.latitude = -kGeoMaxLatitude + (y * 1.0 / cells) * latitudes;
  cell.max.latitude = -kGeoMaxLatitude + ((y + 1) * 1.0 / cells) * latitudes;
  cell.min.longitude = -kGeoMaxLongitude + (x * 1.0 / cells) * longitudes;
  cell.max.longitude = -kGeoMaxLongitude + ((x + 1) * 1.0 / cells) * longitudes;
  return cell;
}

/// The cell so many columns and rows away; the map wraps at its edges. A coordinate that is not
/// moved keeps the bit past the map that a point on its very edge has, as in Redis.
GeoBits Neighbour(GeoBits hash, int columns, int rows) {
  const uint32_t mask = (1u << hash.step) - 1;
  uint32_t y = EveryOther(hash.bits), x = EveryOther(hash.bits >> 1);
  if (rows != 0) y = (y + static_cast<uint32_t>(rows)) & mask;
  if (columns != 0) x = (x + static_cast<uint32_t>(columns)) & mask;
  return {Interleave(y, x), hash.step};
}

double LatitudeDistance(double a, double b) {
  return kEarthRadiusMetres * std::fabs(Radians(b) - Radians(a));
}

/// The box around a shape, as far as a search needs it.
Cell BoundsOf(const GeoShape& shape) {
  const GeoPoint at = shape.center;
  const double height = shape.metres_per_unit * (shape.is_box ? shape.height / 2 : shape.radius);
  const double width = shape.metres_per_unit * (shape.is_box ? shape.width / 2 : shape.radius);
  const double up = Degrees(height / kEarthRadiusMetres);
  const double at_top = Degrees(width / kEarthRadiusMetres / std::cos(Radians(at.latitude + up)));
  const double at_bottom =
      Degrees(width / kEarthRadiusMetres / std::cos(Radians(at.latitude - up)));
  // A degree of longitude is shortest on the side away from the equator.
  const double across = at.latitude < 0 ? at_bottom : at_top;
  return {{at.longitude - across, at.latitude - up}, {at.longitude + across, at.latitude + up}};
}

int StepFor(double radius_metres, double latitude) {
  if (radius_metres == 0) return kGeoMaxStep;
  int step = 1;
  while (radius_metres < kMercatorMetres) {
    radius_metres *= 2;
    ++step;
  }
  step -= 2;  // so that the nine cells cover the radius in most cases
  if (latitude > 66 || latitude < -66) {
    --step;
    if (latitude > 80 || latitude < -80) --step;
  }
  return std::clamp(step, 1, kGeoMaxStep);
}

// The order in which Redis looks at the cells, as columns and rows from the middle.
constexpr int kOffsets[9][2] = {{0, 0}, {0, 1},  {0, -1}, {1, 0},  {-1, 0},
                                {1, 1}, {-1, 1}, {1, -1}, {-1, -1}};

}  // namespace

GeoBits EncodeGeo(GeoPoint point, int step) { return Encode(point, kGeoMaxLatitude, step); }

GeoPoint DecodeGeoScore(double score) {
  const Cell cell = DecodeCell({static_cast<uint64_t>(score), kGeoMaxStep});
  return {
      std::clamp((cell.min.longitude + cell.max.longitude) / 2, -kGeoMaxLongitude,
                 kGeoMaxLongitude),
      std::clamp((cell.min.latitude + cell.max.latitude) / 2, -kGeoMaxLatitude, kGeoMaxLatitude)};
}

std::string GeoHashText(GeoPoint point) {
  constexpr char kLetters[] = "0123456789bcdefghjkmnpqrstuvwxyz";
  constexpr double kPoles = 90;
  constexpr int kTextLetters = 11;
  const uint64_t bits = Encode(point, kPoles, kGeoMaxStep).bits;
  std::string text;
  for (int i = 0; i < kTextLetters; ++i) {
    const bool past_the_bits = i == kTextLetters - 1;
    text.push_back(kLetters[past_the_bits ? 0 : bits >> (52 - (i + 1) * 5) & 31]);
  }
  return text;
}

double GeoDistance(GeoPoint a, GeoPoint b) {
  const double v = std::sin((Radians(b.longitude) - Radians(a.longitude)) / 2);
  const double lat_a = Radians(a.latitude), lat_b = Radians(b.latitude);
  const double u = std::sin((lat_b - lat_a) / 2);
  const double chord = u * u + std::cos(lat_a) * std::cos(lat_b) * v * v;
  return 2.0 * kEarthRadiusMetres * std::asin(std::sqrt(chord));
}

bool GeoShape::Contains(GeoPoint point, double* metres) const {
  if (!is_box) {
    *metres = GeoDistance(center, point);
    return *metres <= radius * metres_per_unit;
  }
  if (LatitudeDistance(point.latitude, center.latitude) > height * metres_per_unit / 2)
    return false;
  const double across = GeoDistance(point, {center.longitude, point.latitude});
  if (across > width * metres_per_unit / 2) return false;
  *metres = GeoDistance(center, point);
  return true;
}

std::array<GeoBits, 9> CoverGeoShape(const GeoShape& shape) {
  const Cell bounds = BoundsOf(shape);
  double radius_metres = shape.radius;
  if (shape.is_box) {
    radius_metres =
        std::sqrt((shape.width / 2) * (shape.width / 2) + (shape.height / 2) * (shape.height / 2));
  }
  radius_metres *= shape.metres_per_unit;
  int step = StepFor(radius_metres, shape.center.latitude);
  GeoBits middle = EncodeGeo(shape.center, step);

  // Near an edge of its cell, or of the map, the shape may reach past the neighbours.
  const bool too_small = DecodeCell(Neighbour(middle, 0, 1)).max.latitude < bounds.max.latitude ||
                         DecodeCell(Neighbour(middle, 0, -1)).min.latitude > bounds.min.latitude ||
                         DecodeCell(Neighbour(middle, 1, 0)).max.longitude < bounds.max.longitude ||
                         DecodeCell(Neighbour(middle, -1, 0)).min.longitude > bounds.min.longitude;
  if (step > 1 && too_small) middle = EncodeGeo(shape.center, --step);

  const Cell cell = DecodeCell(middle);
  std::array<GeoBits, 9> cells;
  for (int i = 0; i < 9; ++i) {
    const int columns = kOffsets[i][0], rows = kOffsets[i][1];
    cells[i] = Neighbour(middle, columns, rows);
    if (step < 2) continue;
    const bool useless = (rows < 0 && cell.min.latitude < bounds.min.latitude) ||
                         (rows > 0 && cell.max.latitude > bounds.max.latitude) ||
                         (columns < 0 && cell.min.longitude < bounds.min.longitude) ||
                         (columns > 0 && cell.max.longitude > bounds.max.longitude);
    if (useless) cells[i] = {};
  }
  return cells;
}

}  // namespace cairn
