#include <faiss_ext/search/rerank.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

#include <faiss_ext/codes/packed_block.h>
#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/memory/row_products.h>
#include <faiss_ext/memory/row_types.h>

namespace faiss_ext {

namespace {

/// Rows that are read from a file at a time.
constexpr size_t kFileRows = 1024;
/// Memory for them that a query keeps for the next one; a batch has 128 queries.
constexpr size_t kKeptBytes = 1 << 18;

/// NaN, from values that overflow or from a damaged file, becomes the worst
/// score: sorting needs an order.
float ordered(float score) {
    return std::isnan(score) ? -HUGE_VALF : score;
}

float get_float(const uint8_t* at) {
    float value;
    std::memcpy(&value, at, sizeof(value));
    return value;
}

} // namespace

void keep_best(std::vector<Candidate>& rows, size_t keep) {
    if (rows.size() > keep) {
        std::nth_element(rows.begin(), rows.begin() + keep, rows.end(), better);
        rows.resize(keep);
    }
}

void Rescorer::begin(
        const ScaNNLists& lists,
        const ScoreTerm& score_term,
        const float* query,
        const float* exact,
        const float* from_origin) {
    lists_ = &lists;
    score_term_ = &score_term;
    exact_ = exact;
    from_origin_ = from_origin;
    term_factor_ = score_term_->query_factor(lists_->layout().d, query);
    quantized_ = false;
    started_ = cached_rows_ = file_reads_ = disk_reads_ = 0;
}

void Rescorer::rescore_codes(
        const LookupTable& table,
        std::vector<Candidate>& rows) {
    const EntryLayout& layout = lists_->layout();
    codes_.resize(layout.M);
    for (Candidate& row : rows) {
        const ScaNNList& list = lists_->list(row.list);
        uint16_t term = 0;
        unpack_codes(
                layout.packed(),
                list.packed.data(),
                list.size(),
                row.offset,
                1,
                codes_.data(),
                &term);
        float score = row.bias + table.score(codes_.data(), layout.M);
        if (layout.has_term) {
            score -= term_factor_ * score_term_->decode(term);
        }
        row.score = ordered(score);
    }
}

void Rescorer::quantize_query() {
    size_t d = lists_->layout().d;
    high_.resize(d);
    low_.resize(d);
    float largest = 0;
    for (size_t i = 0; i < d; i++) {
        largest = std::max(largest, std::fabs(from_origin_[i]));
    }
    // A value is 128 * high + low, |high| <= 127, |low| <= 64. The sum of d
    // products of at most 127 * limit must fit an int32.
    constexpr float kMaxHigh = 128 * 127;
    constexpr float kMaxSum = 2147483520.0f; // largest float below 2^31
    float limit = std::min(kMaxHigh, std::floor(kMaxSum / (127.0f * d)));
    query_step_ = std::max(largest, kMinValue) / limit;
    for (size_t i = 0; i < d; i++) {
        int code = int(std::nearbyint(from_origin_[i] / query_step_));
        int high = (code + 64) >> 7;
        high_[i] = int8_t(high);
        low_[i] = int8_t(code - 128 * high);
    }
    quantized_ = true;
}

void Rescorer::refine(
        const kernels::Kernels& kernels,
        std::vector<Candidate>& rows) {
    const EntryLayout& layout = lists_->layout();
    size_t n = rows.size();
    pointers_.resize(n);
    for (size_t i = 0; i < n; i++) {
        pointers_[i] = lists_->refine_row(rows[i].list, rows[i].offset);
    }
    products_.resize(n);
    if (layout.refine_type == RefineType::Int8) {
        if (!quantized_) {
            quantize_query();
        }
        byte_products_.resize(n);
        kernels.byte_rows_dot(
                {.rows = reinterpret_cast<const int8_t* const*>(
                         pointers_.data()),
                 .n = n,
                 .d = layout.d,
                 .high = high_.data(),
                 .low = low_.data(),
                 .out = byte_products_.data()});
        for (size_t i = 0; i < n; i++) {
            products_[i] = query_step_ * float(byte_products_[i]);
        }
    } else {
        auto product = layout.refine_type == RefineType::FP16
                               ? kernels.fp16_rows_dot
                               : kernels.bf16_rows_dot;
        product(
                {pointers_.data(),
                 n,
                 layout.d,
                 from_origin_,
                 products_.data()});
    }
    const size_t value_bytes = layout.refine_value_bytes();
    for (size_t i = 0; i < n; i++) {
        const uint8_t* at =
                static_cast<const uint8_t*>(pointers_[i]) + value_bytes;
        float scale = get_float(at);
        float shift = get_float(at + sizeof(float));
        rows[i].score = ordered(
                rows[i].bias + scale * products_[i] - term_factor_ * shift);
    }
}

size_t Rescorer::start_reading(const std::vector<Candidate>& rows) {
    const OnDemandRows* file = lists_->on_demand_rows();
    if (file == nullptr) {
        return 0;
    }
    started_ = std::min(kFileRows, rows.size());
    find_raw_rows(rows.data(), started_);
    file->start(started_, pointers_.data(), request_);
    return started_;
}

void Rescorer::rerank(
        const kernels::Kernels& kernels,
        std::vector<Candidate>& rows) {
    const size_t n = rows.size();
    const size_t step = lists_->on_demand_rows() != nullptr ? kFileRows : n;
    for (size_t begin = 0; begin < n; begin += step) {
        rerank_some(kernels, &rows[begin], std::min(step, n - begin));
    }
    request_.trim(kKeptBytes);
}

/// Their addresses in the lists, or in the mapping of a file.
void Rescorer::find_raw_rows(const Candidate* rows, size_t n) {
    pointers_.resize(n);
    for (size_t i = 0; i < n; i++) {
        pointers_[i] = lists_->raw_row(rows[i].list, rows[i].offset);
    }
}

void Rescorer::rerank_some(
        const kernels::Kernels& kernels,
        Candidate* rows,
        size_t n) {
    const EntryLayout& layout = lists_->layout();
    products_.resize(n);
    const OnDemandRows* file = lists_->on_demand_rows();
    const bool started = started_ > 0;
    started_ = 0;
    if (!started) {
        find_raw_rows(rows, n);
    }
    if (file != nullptr) {
        if (!started) {
            file->start(n, pointers_.data(), request_);
        }
        file->finish(pointers_.data(), request_);
        cached_rows_ += request_.cached();
        file_reads_ += request_.reads();
        disk_reads_ += request_.waits();
    }
    const bool l2 = score_term_->metric == faiss::METRIC_L2;
    const RowsKernel score = l2 ? rows_l2(kernels, layout.raw_type)
                                : rows_dot(kernels, layout.raw_type);
    score({pointers_.data(), n, layout.d, exact_, products_.data()});
    // or kPreciseCosine
    auto inverse_length = [&](size_t i) {
        return get_float(
                static_cast<const uint8_t*>(pointers_[i]) +
                layout.raw_value_bytes());
    };
    bool in_range = true; // all scores are finite floats
    for (size_t i = 0; i < n && layout.raw_norm; i++) {
        const float factor = inverse_length(i);
        products_[i] *= factor;
        in_range = in_range && factor >= 0;
    }
    in_range = in_range && all_finite(n, products_.data());
    for (size_t i = 0; i < n; i++) {
        rows[i].score = l2 ? -products_[i] / 2 : products_[i];
    }
    for (size_t i = 0; i < n && !in_range; i++) {
        if (!std::isfinite(products_[i]) ||
            (layout.raw_norm && inverse_length(i) < 0)) {
            rows[i].score = ordered(precise_score(pointers_[i]));
        }
    }
}

/// In doubles, limited to the largest float.
float Rescorer::precise_score(const void* raw) {
    const EntryLayout& layout = lists_->layout();
    row_.resize(layout.d);
    to_floats(layout.raw_type, layout.d, raw, row_.data());
    const float* row = row_.data();
    double score = 0;
    double most = FLT_MAX;
    if (score_term_->metric == faiss::METRIC_L2) {
        most /= 2; // a distance is twice a score
        for (size_t j = 0; j < layout.d; j++) {
            const double apart = double(exact_[j]) - row[j];
            score -= apart * apart / 2;
        }
    } else {
        score = precise_dot(layout.d, exact_, row);
        if (layout.raw_norm && score != 0) {
            score /= std::sqrt(precise_square(layout.d, row));
        }
    }
    return float(std::clamp(score, -most, most));
}

void Rescorer::rescore_best(
        const kernels::Kernels& kernels,
        const LookupTable& table,
        std::vector<Candidate>& rows) {
    const EntryLayout& layout = lists_->layout();
    if (layout.with_raw_data) {
        rerank(kernels, rows);
    } else if (layout.refine_type != RefineType::None) {
        refine(kernels, rows);
    } else {
        rescore_codes(table, rows);
    }
}

} // namespace faiss_ext
