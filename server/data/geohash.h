#pragma once

// Geohashes of 52 bits as Redis keeps them in scores, distances on its sphere, and the boxes that a
// search by circle or rectangle has to look at. The same formulas in the same order as Redis 7.0,
// so that replies agree to the last digit. Pure; any thread.

#include <array>
#include <cstdint>
#include <string>

namespace cairn {

/// Degrees. Latitudes are those of the web Mercator projection.
struct GeoPoint {
  double longitude = 0;
  double latitude = 0;
};
inline constexpr double kGeoMaxLongitude = 180, kGeoMaxLatitude = 85.05112878;
inline constexpr int kGeoMaxStep = 26;

/// `step` bits of each coordinate, interleaved; step 0: none.
struct GeoBits {
  uint64_t bits = 0;
  int step = 0;
  bool operator==(const GeoBits&) const = default;
};

/// Requires: the point is within the limits above.
GeoBits EncodeGeo(GeoPoint point, int step);
/// The middle of the cell of a score of 52 bits.
GeoPoint DecodeGeoScore(double score);
inline uint64_t GeoScore(GeoBits hash) { return hash.bits << (52 - hash.step * 2); }
/// The 11 letters of the common geohash (latitudes to 90 degrees); the last stands for no bits.
std::string GeoHashText(GeoPoint point);
/// Metres on a sphere of radius 6372797.560856 (haversine).
double GeoDistance(GeoPoint a, GeoPoint b);

struct GeoShape {
  bool is_box = false;
  GeoPoint center;
  double radius = 0;             ///< circles, in units
  double width = 0, height = 0;  ///< boxes, in units
  double metres_per_unit = 1;

  /// Whether the point lies inside; *metres is its distance from the center then.
  bool Contains(GeoPoint point, double* metres) const;
};

/// The cell of the center and its eight neighbours that a search of `shape` must look at, in the
/// order Redis looks at them; step 0 marks those to leave out.
std::array<GeoBits, 9> CoverGeoShape(const GeoShape& shape);

}  // namespace cairn
