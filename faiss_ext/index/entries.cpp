/*
 * The codec functions of faiss::IndexIVF: an entry is what the lists hold of
 * a vector (EntryLayout).
 */

#include <algorithm>
#include <memory>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/model/codec.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/memory/parallel.h>

namespace faiss_ext {

namespace {

/// rows that a thread encodes or decodes at a time
constexpr size_t kCodecSlice = 128;

} // namespace

void IndexIVFScaNN::encode_vectors(
        idx_t n,
        const float* x,
        const idx_t* list_nos,
        uint8_t* codes,
        bool include_listno) const {
    check_trained(*state_);
    std::vector<float> unit;
    const float* rows = prepare_rows(*state_, size_t(n), x, "row", unit);
    size_t prefix = include_listno ? coarse_code_size() : 0;
    size_t stride = prefix + code_size;
    const EntryCodec codec = state_->codec();
    parallel_slices(n, kCodecSlice, [&](size_t begin, size_t end) {
        size_t count = end - begin;
        std::vector<uint8_t> entries(count * code_size);
        std::vector<float> centroids =
                centroids_of(*state_, count, list_nos + begin);
        codec.encode(
                count,
                rows + begin * d,
                x + begin * d,
                centroids.data(),
                entries.data());
        for (size_t i = 0; i < count; i++) {
            uint8_t* out = codes + (begin + i) * stride;
            idx_t list = list_nos[begin + i];
            if (list < 0) {
                std::fill_n(out, stride, 0);
                continue;
            }
            if (include_listno) {
                encode_listno(list, out);
            }
            std::copy_n(
                    entries.data() + i * code_size, code_size, out + prefix);
        }
    });
}

void IndexIVFScaNN::decode_vectors(
        idx_t n,
        const uint8_t* codes,
        const idx_t* list_nos,
        float* x) const {
    check_trained(*state_);
    const EntryCodec codec = state_->codec();
    parallel_slices(n, kCodecSlice, [&](size_t begin, size_t end) {
        size_t count = end - begin;
        std::vector<float> centroids =
                centroids_of(*state_, count, list_nos + begin);
        codec.decode(
                count,
                codes + begin * code_size,
                centroids.data(),
                x + begin * d);
    });
}

void IndexIVFScaNN::sa_encode(idx_t n, const float* x, uint8_t* codes) const {
    check_trained(*state_);
    std::vector<float> unit;
    const float* rows = prepare_rows(*state_, size_t(n), x, "row", unit);
    std::vector<idx_t> lists_of(n);
    assign_lists(*state_, size_t(n), rows, lists_of.data());
    encode_vectors(n, x, lists_of.data(), codes, true);
}

void IndexIVFScaNN::sa_decode(idx_t n, const uint8_t* codes, float* x) const {
    check_trained(*state_);
    size_t stride = sa_code_size();
    size_t prefix = coarse_code_size();
    std::vector<uint8_t> entries(n * code_size);
    std::vector<idx_t> lists_of(n);
    for (idx_t i = 0; i < n; i++) {
        const uint8_t* code = codes + i * stride;
        lists_of[i] = list_of_code(codes, size_t(i), stride, prefix, nlist);
        std::copy_n(code + prefix, code_size, entries.data() + i * code_size);
    }
    decode_vectors(n, entries.data(), lists_of.data(), x);
}

void IndexIVFScaNN::reconstruct_from_offset(
        int64_t list_no,
        int64_t offset,
        float* x) const {
    faiss::InvertedLists::ScopedCodes entry(invlists, list_no, offset);
    decode_vectors(1, entry.get(), &list_no, x);
}

} // namespace faiss_ext
