#include <faiss_ext/model/defaults.h>

#include <algorithm>
#include <cmath>
#include <span>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/codes/entry_layout.h>
#include <faiss_ext/kernels/kernels.h>
#include <faiss_ext/lists/scann_lists.h>
#include <faiss_ext/model/options.h>

namespace faiss_ext {

namespace {

struct Storage {
    size_t sub_dim;
    bool copies;
    RefineType refine_type;
    bool with_raw_data;
};

// Fastest first, each smaller than the one before; for kVeryManyDimensions and
// more, for kManyDimensions and more, and for fewer.
constexpr Storage kVeryManyDimensionStorage[] = {
        {8, true, RefineType::None, true},
        {8, true, RefineType::Int8, false},
        {8, false, RefineType::Int8, false},
        {2, false, RefineType::None, false},
        {4, false, RefineType::None, false},
        {8, false, RefineType::None, false},
};
constexpr Storage kManyDimensionStorage[] = {
        {4, true, RefineType::None, true},
        {2, true, RefineType::Int8, false},
        {2, false, RefineType::Int8, false},
        {2, false, RefineType::None, false},
        {4, false, RefineType::None, false},
        {8, false, RefineType::None, false},
};
constexpr Storage kFewDimensionStorage[] = {
        {2, false, RefineType::None, true},
        {2, false, RefineType::Int8, false},
        {2, false, RefineType::None, false},
        {4, false, RefineType::None, false},
        {8, false, RefineType::None, false},
};

} // namespace

size_t whole_groups(size_t d, size_t sub_dim) {
    constexpr size_t kGroup = kernels::kGroup;
    constexpr size_t kMinGroups = 4; // of fewer, a group is too large a part
    size_t groups = d / sub_dim / kGroup;
    return groups < kMinGroups ? 0 : groups * kGroup;
}

size_t sub_dim_of_copies(size_t d) {
    return d >= kVeryManyDimensions ? 8 : 4;
}

size_t default_nlist(size_t n, const ScaNNOptions& options) {
    const double factor = options.soar_lambda > 0 ? 3 : 4;
    size_t wanted = size_t(factor * std::sqrt(double(n)));
    constexpr size_t kMinRowsPerList = 32;
    return std::max<size_t>(1, std::min(wanted, n / kMinRowsPerList));
}

size_t default_nprobe(size_t nlist) {
    constexpr size_t kProbedShare = 32;
    return std::max<size_t>(1, nlist / kProbedShare);
}

SegmentDefaults
segment_defaults(size_t rows, size_t nlist, size_t k, size_t usual) {
    constexpr size_t kSmall = 20000;
    constexpr size_t kSurplus = 2048;
    constexpr size_t kRowsPerResult = 16;
    const bool small = rows <= kSmall;
    const double seen =
            small ? std::floor(double(rows) / 2) + kSurplus
                  : (double(kSmall) / 2 + kSurplus) * kSmall / double(rows);
    const double wanted = std::max(seen, double(kRowsPerResult) * double(k));
    const double share =
            std::min(1.0, wanted / double(std::max<size_t>(rows, 1)));
    const size_t lists = size_t(std::ceil(double(nlist) * share));
    // twice what search_plan.cpp adds to k (kExtraCandidates)
    constexpr double kExtraCandidates = 60;
    const size_t candidates =
            k + size_t(kExtraCandidates * std::sqrt(double(k)));
    return {std::min(nlist, std::max(usual, lists)), small ? candidates : 0};
}

bool rotation_pays(RotationKind kind, size_t n, size_t d) {
    constexpr size_t kRowsPerDimension = 8;
    constexpr size_t kMaxDimensions = 8192;
    if (kind != RotationKind::Balanced) {
        return kind != RotationKind::None;
    }
    return d <= kMaxDimensions && n >= kRowsPerDimension * d;
}

double bytes_per_vector(size_t d, const ScaNNOptions& options) {
    const size_t M = block_offsets(d, options).size() - 1;
    const EntryLayout layout = EntryLayout::of(d, M, options);
    constexpr size_t kVectors = 1 << 10;
    size_t bytes = ScaNNLists::estimate_memory(layout, 0, kVectors);
    if (options.soar_lambda > 0) {
        bytes += ScaNNLists::estimate_memory(layout.of_copies(), 0, kVectors);
    }
    return double(bytes) / kVectors;
}

ScaNNOptions
default_storage(size_t d, size_t most_bytes, ScaNNOptions options) {
    const std::span<const Storage> storages =
            d >= kVeryManyDimensions
                    ? std::span<const Storage>(kVeryManyDimensionStorage)
            : d >= kManyDimensions
                    ? std::span<const Storage>(kManyDimensionStorage)
                    : std::span<const Storage>(kFewDimensionStorage);
    options.M = 0;
    double needed = 0;
    for (const Storage& storage : storages) {
        options.sub_dim = storage.sub_dim;
        options.soar_lambda = storage.copies ? 1.0f : 0.0f;
        options.refine_type = storage.refine_type;
        options.with_raw_data = storage.with_raw_data;
        needed = bytes_per_vector(d, options);
        if (most_bytes == 0 || needed <= double(most_bytes)) {
            return options;
        }
    }
    FAISS_THROW_FMT(
            "bytes_per_vector = %zu (allowed: >= %zu for %zu dimensions, or "
            "0: no limit)",
            most_bytes,
            size_t(std::ceil(needed)),
            d);
}

} // namespace faiss_ext
