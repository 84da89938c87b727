#pragma once

#include <cmath>

namespace faiss_ext {

/** sqrt(a^2 + b^2), the bits of glibc's hypotf. That one needs glibc 2.35 or
 * newer where it was compiled there, and a wheel then runs on fewer systems. */
inline float length_of(float a, float b) {
    return float(std::sqrt(double(a) * a + double(b) * b));
}

} // namespace faiss_ext
