/* Rows <-> entries, part by part: each against the formula of its header. */

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <faiss/impl/FaissException.h>
#include <gtest/gtest.h>

#include <faiss_ext/model/codec.h>

#include "fixtures/codec_fixtures.h"

using namespace faiss_ext;
using namespace codec_fixtures;

namespace {

float float_at(const uint8_t* at) {
    float value;
    std::memcpy(&value, at, sizeof(value));
    return value;
}

struct RotatedRows {
    std::vector<float> rotated, residuals, directions; ///< size kN * kD
};

RotatedRows rotated_rows(const Made& made) {
    const std::vector<float> zeros(kN * kD);
    RotatedRows rows{zeros, zeros, zeros};
    made.codec().rotate(
            kN,
            made.x.data(),
            made.centroids.data(),
            rows.rotated.data(),
            rows.residuals.data(),
            rows.directions.data());
    return rows;
}

/// All dimensions have codes, or the leading ones.
constexpr size_t kCoded[] = {kD, 11};

std::vector<std::pair<EntryLayout, size_t>> layouts_and_coded() {
    std::vector<std::pair<EntryLayout, size_t>> all;
    for (const EntryLayout& layout : all_layouts()) {
        for (size_t coded : kCoded) {
            all.emplace_back(layout, coded);
        }
    }
    return all;
}

struct Coded {
    std::vector<uint8_t> codes; ///< size kN * layout.M
    std::vector<float> decoded; ///< size kN * kD
};

/// By the quantizer alone, row by row.
Coded coded_rows(const Made& made, const RotatedRows& rows) {
    const size_t M = made.layout.M;
    Coded coded{std::vector<uint8_t>(kN * M), std::vector<float>(kN * kD)};
    for (size_t i = 0; i < kN; i++) {
        uint8_t* codes = &coded.codes[i * M];
        made.model.pq.encode(
                1, &rows.residuals[i * kD], &rows.directions[i * kD], codes);
        made.model.pq.decode(1, codes, &coded.decoded[i * kD]);
    }
    return coded;
}

TEST(Codec, RotatesFromTheOrigin) {
    for (auto metric : {kIP, kL2}) {
        const Made made(metric, layout_of(RefineType::None, false));
        const auto [rotated, residuals, directions] = rotated_rows(made);
        for (size_t i = 0; i < kN; i++) {
            std::vector<float> from(kD), residual(kD);
            for (size_t j = 0; j < kD; j++) {
                const float origin =
                        made.model.origin.empty() ? 0 : made.model.origin[j];
                from[j] = made.x[i * kD + j] - origin;
                residual[j] = made.x[i * kD + j] - made.centroids[i * kD + j];
            }
            const double length =
                    std::sqrt(reference::dot(kD, from.data(), from.data()));
            for (size_t j = 0; j < kD; j++) {
                const float* axis = &made.model.rotation.matrix()[j * kD];
                const double turned = reference::dot(kD, axis, from.data());
                EXPECT_NEAR(rotated[i * kD + j], turned, 1e-5);
                EXPECT_NEAR(
                        residuals[i * kD + j],
                        reference::dot(kD, axis, residual.data()),
                        1e-5);
                EXPECT_NEAR(directions[i * kD + j], turned / length, 1e-5);
            }
        }
    }
}

TEST(Codec, EntriesHoldWhatTheLayoutSays) {
    for (auto metric : {kIP, kL2}) {
        for (const auto& [layout, coded] : layouts_and_coded()) {
            const Made made(metric, layout, coded);
            const RotatedRows rows = rotated_rows(made);
            const auto& [rotated, residuals, directions] = rows;
            const auto [codes, decoded] = coded_rows(made, rows);
            for (size_t i = 0; i < kN; i++) {
                const uint8_t* entry = made.entry(i);
                for (size_t m = 0; m < layout.M; m++) {
                    EXPECT_EQ(
                            entry[m / 2] >> (m % 2 * 4) & 15,
                            codes[i * layout.M + m]);
                }
                if (layout.M % 2 == 1) {
                    EXPECT_EQ(entry[layout.code_bytes() - 1] >> 4, 0);
                }
                if (layout.has_term) {
                    uint16_t term;
                    std::memcpy(&term, entry + layout.term_offset(), 2);
                    EXPECT_EQ(
                            term,
                            made.model.score_term.encode(
                                    kD,
                                    &rotated[i * kD],
                                    &residuals[i * kD],
                                    &decoded[i * kD],
                                    true));
                }
                if (layout.with_raw_data) {
                    EXPECT_EQ(
                            std::memcmp(
                                    entry + layout.raw_offset(),
                                    &made.raw[i * kD],
                                    kD * sizeof(float)),
                            0);
                }
                if (layout.raw_norm) {
                    const float* row = &made.raw[i * kD];
                    EXPECT_FLOAT_EQ(
                            float_at(
                                    entry + layout.raw_offset() +
                                    kD * sizeof(float)),
                            float(1 / std::sqrt(reference::dot(kD, row, row))));
                }
                if (layout.has_primary) {
                    uint64_t primary;
                    std::memcpy(&primary, entry + layout.primary_offset(), 8);
                    EXPECT_EQ(primary, 0);
                }
            }
        }
    }
}

/// The residual in steps of the refine type, and the shift of what they miss.
TEST(Codec, RefineRowsAreTheResidual) {
    for (auto metric : {kIP, kL2}) {
        for (auto [type, step] : std::vector<std::pair<RefineType, double>>{
                     {RefineType::Int8, .5 / 127},
                     {RefineType::FP16, 0x1p-11},
                     {RefineType::BF16, 0x1p-8}}) {
            const EntryLayout layout = layout_of(type, false);
            const Made made(metric, layout);
            for (size_t i = 0; i < kN; i++) {
                const uint8_t* row = made.entry(i) + layout.refine_offset();
                const float scale = float_at(row + layout.refine_value_bytes());
                const float shift = float_at(
                        row + layout.refine_value_bytes() + sizeof(float));
                std::vector<float> values(kD), residual(kD), from(kD);
                refine_values(type, kD, row, values.data());
                double largest = 0;
                for (size_t j = 0; j < kD; j++) {
                    values[j] *= scale;
                    residual[j] =
                            made.x[i * kD + j] - made.centroids[i * kD + j];
                    from[j] = made.x[i * kD + j];
                    if (metric == kL2) {
                        from[j] -= made.model.origin[j];
                    }
                    largest = std::max<double>(largest, std::abs(residual[j]));
                }
                for (size_t j = 0; j < kD; j++) {
                    EXPECT_NEAR(values[j], residual[j], 1.001 * step * largest)
                            << int(type);
                }
                EXPECT_EQ(
                        shift,
                        made.model.score_term.shift(
                                kD,
                                from.data(),
                                residual.data(),
                                values.data()));
            }
        }
    }
}

TEST(Codec, DecodesTheBestThatIsHeld) {
    for (const auto& [layout, coded] : layouts_and_coded()) {
        const Made made(kL2, layout, coded);
        std::vector<float> x(kN * kD);
        made.codec().decode(
                kN, made.entries.data(), made.centroids.data(), x.data());
        double square = 0, residual_square = 0;
        for (size_t i = 0; i < kN * kD; i++) {
            const double off = double(x[i]) - made.x[i];
            const double residual = double(made.x[i]) - made.centroids[i];
            square += off * off;
            residual_square += residual * residual;
        }
        const double share = square / residual_square;
        if (layout.with_raw_data) {
            EXPECT_EQ(x, made.raw);
        } else if (layout.refine_type != RefineType::None) {
            EXPECT_LE(share, 1e-4) << int(layout.refine_type);
        } else {
            EXPECT_LE(share, .9) << "codes of random words, yet nearer";
            // centroid + R^T codes
            std::vector<uint8_t> codes(layout.M + 1);
            std::vector<float> decoded(kD), back(kD);
            for (size_t i = 0; i < kN; i++) {
                for (size_t m = 0; m < layout.M; m++) {
                    codes[m] = made.entry(i)[m / 2] >> (m % 2 * 4) & 15;
                }
                made.model.pq.decode(1, codes.data(), decoded.data());
                const auto turned = reference::product(
                        1, kD, kD, decoded, made.model.rotation.matrix());
                for (size_t j = 0; j < kD; j++) {
                    EXPECT_NEAR(
                            x[i * kD + j],
                            made.centroids[i * kD + j] + turned[j],
                            1e-5);
                }
            }
        }
    }
}

TEST(Codec, EachRowAloneAsInABatch) {
    for (const EntryLayout& layout : all_layouts()) {
        const Made made(kIP, layout);
        std::vector<uint8_t> alone(layout.size());
        made.codec().encode(0, nullptr, nullptr, nullptr, nullptr);
        for (size_t i = 0; i < kN; i++) {
            made.codec().encode(
                    1,
                    &made.x[i * kD],
                    &made.raw[i * kD],
                    &made.centroids[i * kD],
                    alone.data());
            EXPECT_TRUE(std::equal(alone.begin(), alone.end(), made.entry(i)))
                    << i;
        }
    }
}

/// Where more than codes is kept, rows without a useful code are kept apart.
TEST(Codec, RowsFarOffAreApartIfTheyCanBeRescored) {
    const EntryLayout layout = layout_of(RefineType::Int8, false);
    Made made(kL2, layout);
    made.model.score_term.error_limit = 100;
    for (size_t j = 0; j < kD; j++) {
        made.x[j] += 1000;
    }
    for (bool rescored : {true, false}) {
        EntryCodec codec{layout, made.model, rescored};
        codec.encode(
                kN,
                made.x.data(),
                made.x.data(),
                made.centroids.data(),
                made.entries.data());
        for (size_t i = 0; i < kN; i++) {
            uint16_t term;
            std::memcpy(&term, made.entry(i) + layout.term_offset(), 2);
            EXPECT_EQ(term == ScoreTerm::kApart, rescored && i == 0) << i;
        }
    }
}

TEST(Codec, ExtremeRowsStayFinite) {
    for (const EntryLayout& layout : all_layouts()) {
        Made made(kIP, layout);
        const float extremes[] = {FLT_MAX, -FLT_MAX, FLT_MIN, 1e-44f, 0};
        for (size_t i = 0; i < 5 * kD; i++) {
            made.x[i] = extremes[i / kD] * (i % 2 ? 1.f : -1.f);
        }
        made.codec().encode(
                kN,
                made.x.data(),
                made.x.data(),
                made.centroids.data(),
                made.entries.data());
        std::vector<float> x(kN * kD);
        made.codec().decode(
                kN, made.entries.data(), made.centroids.data(), x.data());
        for (size_t i = 5 * kD; i < kN * kD; i++) {
            EXPECT_TRUE(std::isfinite(x[i])) << i;
        }
        for (size_t i = 0; i < 5 * kD; i++) {
            EXPECT_FALSE(std::isnan(x[i])) << i;
        }
        if (layout.raw_norm) {
            auto norm = [&](size_t i) {
                return float_at(
                        made.entry(i) + layout.raw_offset() +
                        kD * sizeof(float));
            };
            for (size_t i : {0, 1, 2, 3}) {
                EXPECT_EQ(norm(i), kPreciseCosine) << i;
            }
            EXPECT_EQ(norm(4), 0);
        }
    }
}

TEST(Codec, ListsInFrontOfCodes) {
    const uint8_t codes[] = {1, 0, 99, 2, 1, 98};
    EXPECT_EQ(list_of_code(codes, 0, 3, 2, 300), 1);
    EXPECT_EQ(list_of_code(codes, 1, 3, 2, 300), 258);
    EXPECT_EQ(list_of_code(codes, 1, 3, 0, 1), 0) << "one list: no bytes";
    try {
        list_of_code(codes, 1, 3, 2, 258);
        FAIL() << "no such list";
    } catch (const faiss::FaissException& error) {
        const std::string message = error.what();
        EXPECT_NE(message.find("258"), std::string::npos) << message;
        EXPECT_NE(message.find("0..257"), std::string::npos) << message;
    }
}

} // namespace
