#include <faiss_ext/model/codec.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/memory/row_products.h>
#include <faiss_ext/memory/row_types.h>

namespace faiss_ext {

namespace {

RowType value_type(RefineType type) {
    switch (type) {
        case RefineType::FP16:
            return RowType::FP16;
        case RefineType::BF16:
            return RowType::BF16;
        case RefineType::Int8:
            return RowType::Int8;
        case RefineType::None:
            break;
    }
    FAISS_THROW_MSG("no refine codes");
}

/// The power of two that scales values up to `largest` to below 2. Half
/// precision ends at 65504 and loses digits below 6e-5, and bf16 rounds the
/// largest float to infinity. The scaling changes no digit of values above
/// 2^-14 of the largest.
/// @param inverse  out: a normal float
double to_unit_range(float largest, float& inverse) {
    int exponent = 0;
    (void)std::frexp(largest, &exponent);
    constexpr int kMin = std::numeric_limits<float>::min_exponent - 1;
    exponent = std::max(exponent - 1, kMin);
    inverse = std::ldexp(1.0f, exponent);
    return std::ldexp(1.0, -exponent);
}

/// Writes the d values of a refine row. @return  their scale: r ~ scale *
/// values
float encode_refine_values(
        RefineType type,
        size_t d,
        const float* r,
        uint8_t* row) {
    float largest = 0;
    for (size_t i = 0; i < d; i++) {
        largest = std::max(largest, std::fabs(r[i]));
    }
    if (type == RefineType::Int8) {
        if (!(largest > kMinValue)) {
            std::memset(row, 0, d);
            return 0;
        }
        float to_code = 127 / largest;
        for (size_t i = 0; i < d; i++) {
            row[i] = uint8_t(int8_t(std::nearbyint(r[i] * to_code)));
        }
        return largest / 127;
    }
    float scale = 1;
    double factor = to_unit_range(largest, scale);
    for (size_t i = 0; i < d; i++) {
        const float value = float(r[i] * factor);
        from_floats(value_type(type), 1, &value, row + 2 * i);
    }
    return scale;
}

/// The reciprocal of a smaller length is not a finite float.
constexpr double kMinNorm = 1e-37;

/// Replaces infinities and NaN, which sums of values near the largest float
/// become.
void make_finite(size_t n, float* values) {
    for (size_t i = 0; i < n; i++) {
        float value = values[i] == values[i] ? values[i] : 0;
        values[i] = std::clamp(value, -FLT_MAX, FLT_MAX);
    }
}

/// 1 / ||x||, 0 for a row of zeros; kPreciseCosine where products of floats
/// would leave their range.
float inverse_length(size_t d, const float* x) {
    constexpr double kMin = 1e-15, kMax = 1e30;
    const double norm = std::sqrt(precise_square(d, x));
    if (norm == 0) {
        return 0;
    }
    return norm < kMin || norm > kMax ? kPreciseCosine : float(1 / norm);
}

void put_float(uint8_t* at, float value) {
    std::memcpy(at, &value, sizeof(value));
}

} // namespace

int64_t list_of_code(
        const uint8_t* codes,
        size_t i,
        size_t stride,
        size_t prefix,
        size_t nlist) {
    uint64_t list = 0;
    for (size_t b = 0; b < prefix; b++) {
        list |= uint64_t(codes[i * stride + b]) << (8 * b);
    }
    FAISS_THROW_IF_NOT_FMT(
            list < nlist,
            "code %zu names list %llu (allowed: 0..%zu)",
            i,
            static_cast<unsigned long long>(list),
            nlist - 1);
    return int64_t(list);
}

void refine_values(RefineType type, size_t d, const uint8_t* row, float* out) {
    to_floats(value_type(type), d, row, out);
}

void EntryCodec::rotate(
        size_t n,
        const float* x,
        const float* centroids,
        float* rotated,
        float* residuals,
        float* directions) const {
    size_t d = layout.d;
    const Rotation& rotation = model.rotation;
    std::vector<float> shifted, shifted_centroids;
    x = model.from_origin(n, x, shifted);
    rotation.apply(n, x, rotated);
    std::vector<float> distinct, rotated_centroids;
    std::vector<size_t> runs(n); // run of equal centroids of each row
    for (size_t i = 0; i < n; i++) {
        const float* centroid = centroids + i * d;
        bool same = i > 0 && std::equal(centroid, centroid + d, centroid - d);
        runs[i] = i == 0 ? 0 : runs[i - 1] + !same;
        if (!same) {
            distinct.insert(distinct.end(), centroid, centroid + d);
        }
    }
    rotated_centroids.resize(distinct.size());
    const size_t count = distinct.size() / d;
    rotation.apply(
            count,
            model.from_origin(count, distinct.data(), shifted_centroids),
            rotated_centroids.data());
    make_finite(n * d, rotated);
    make_finite(rotated_centroids.size(), rotated_centroids.data());
    for (size_t i = 0; i < n; i++) {
        const float* row = rotated + i * d;
        const float* centroid = rotated_centroids.data() + runs[i] * d;
        const double norm = std::sqrt(precise_square(d, x + i * d));
        float factor = norm > kMinNorm ? 1 / float(norm) : 0;
        for (size_t j = 0; j < d; j++) {
            residuals[i * d + j] =
                    std::clamp(row[j] - centroid[j], -FLT_MAX, FLT_MAX);
            directions[i * d + j] = row[j] * factor;
        }
        for (size_t j = 0; j < d && norm > 0 && norm <= kMinNorm; j++) {
            directions[i * d + j] = float(row[j] / norm);
        }
    }
}

void EntryCodec::encode_residuals(
        size_t n,
        const float* residuals,
        float* directions,
        uint8_t* codes,
        float* decoded) const {
    const size_t d = layout.d;
    const size_t coded = model.pq.d();
    if (coded == d) {
        model.pq.encode(n, residuals, directions, codes);
        model.pq.decode(n, codes, decoded);
        return;
    }
    leading_columns(n, d, coded, residuals, decoded);
    model.pq.encode(n, decoded, directions, codes);
    model.pq.decode(n, codes, directions);
    for (size_t i = 0; i < n; i++) {
        std::copy_n(directions + i * coded, coded, decoded + i * d);
        std::fill_n(decoded + i * d + coded, d - coded, 0.0f);
    }
}

/// Two codes a byte. @param codes  size layout.M
void EntryCodec::put_codes(const uint8_t* codes, uint8_t* entry) const {
    for (size_t m = 0; m < layout.M; m += 2) {
        entry[m / 2] = codes[m] | (m + 1 < layout.M ? codes[m + 1] << 4 : 0);
    }
}

/// The refine row of x.
void EntryCodec::put_refine_row(
        const float* x,
        const float* centroid,
        RefineScratch& scratch,
        uint8_t* entry) const {
    const size_t d = layout.d;
    auto& [residual, values, shifted] = scratch;
    residual.resize(d);
    values.resize(d);
    for (size_t j = 0; j < d; j++) {
        residual[j] = std::clamp(x[j] - centroid[j], -FLT_MAX, FLT_MAX);
    }
    uint8_t* refine = entry + layout.refine_offset();
    const float scale = encode_refine_values(
            layout.refine_type, d, residual.data(), refine);
    refine_values(layout.refine_type, d, refine, values.data());
    for (float& value : values) {
        value *= scale;
    }
    uint8_t* extra = refine + layout.refine_value_bytes();
    put_float(extra, scale);
    put_float(
            extra + sizeof(float),
            model.score_term.shift(
                    d,
                    model.from_origin(1, x, shifted),
                    residual.data(),
                    values.data()));
}

void EntryCodec::put_raw_row(const float* raw, uint8_t* entry) const {
    uint8_t* to = entry + layout.raw_offset();
    from_floats(layout.raw_type, layout.d, raw, to);
    if (layout.raw_norm) {
        put_float(to + layout.raw_value_bytes(), inverse_length(layout.d, raw));
    }
}

void EntryCodec::encode(
        size_t n,
        const float* x,
        const float* raw,
        const float* centroids,
        uint8_t* entries) const {
    size_t d = layout.d;
    size_t M = layout.M;
    // not initialised: in cache, zeros would cost as much as the values
    auto rows = std::make_unique_for_overwrite<float[]>(4 * n * d);
    float* rotated_x = rows.get();
    float* residuals = rotated_x + n * d;
    float* directions = residuals + n * d;
    float* decoded = directions + n * d;
    rotate(n, x, centroids, rotated_x, residuals, directions);
    std::vector<uint8_t> codes(n * M + 1);
    leading_columns(n, d, model.pq.d(), directions, directions);
    encode_residuals(n, residuals, directions, codes.data(), decoded);

    RefineScratch scratch;
    for (size_t i = 0; i < n; i++, entries += layout.size()) {
        put_codes(codes.data() + i * M, entries);
        if (layout.has_term) {
            uint16_t term = model.score_term.encode(
                    d,
                    rotated_x + i * d,
                    residuals + i * d,
                    decoded + i * d,
                    rescored);
            std::memcpy(entries + layout.term_offset(), &term, sizeof(term));
        }
        if (layout.refine_type != RefineType::None) {
            put_refine_row(x + i * d, centroids + i * d, scratch, entries);
        }
        if (layout.with_raw_data) {
            put_raw_row(raw + i * d, entries);
        }
        if (layout.has_tag) {
            std::memset(entries + layout.tag_offset(), 0, sizeof(int64_t));
        }
        if (layout.has_primary) {
            std::memset(entries + layout.primary_offset(), 0, sizeof(uint64_t));
        }
    }
}

void EntryCodec::decode(
        size_t n,
        const uint8_t* entries,
        const float* centroids,
        float* x) const {
    size_t d = layout.d;
    std::vector<uint8_t> codes(layout.M + 1);
    std::vector<float> rotated(d), residual(d);
    for (size_t i = 0; i < n; i++, entries += layout.size(), x += d) {
        if (layout.with_raw_data) {
            to_floats(layout.raw_type, d, entries + layout.raw_offset(), x);
            continue;
        }
        if (layout.refine_type != RefineType::None) {
            const uint8_t* row = entries + layout.refine_offset();
            refine_values(layout.refine_type, d, row, residual.data());
            float scale;
            std::memcpy(
                    &scale, row + layout.refine_value_bytes(), sizeof(scale));
            for (float& value : residual) {
                value *= scale;
            }
        } else {
            for (size_t m = 0; m < layout.M; m += 2) {
                codes[m] = entries[m / 2] & 0x0F;
                codes[m + 1] = entries[m / 2] >> 4;
            }
            model.pq.decode(1, codes.data(), rotated.data());
            model.rotation.apply_transposed(1, rotated.data(), residual.data());
        }
        for (size_t j = 0; j < d; j++) {
            x[j] = centroids[i * d + j] + residual[j];
        }
    }
}

} // namespace faiss_ext
