#include <faiss_ext/io/export_faiss.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include <faiss/IndexFlat.h>
#include <faiss/IndexIVFPQFastScan.h>
#include <faiss/IndexPreTransform.h>
#include <faiss/IndexRefine.h>
#include <faiss/VectorTransform.h>
#include <faiss/impl/FaissAssert.h>
#include <faiss/invlists/BlockInvertedLists.h>
#if __has_include(<faiss/impl/fast_scan/fast_scan.h>)
#include <faiss/impl/fast_scan/fast_scan.h> // its place since 1.14
#else
#include <faiss/impl/pq4_fast_scan.h>
#endif

#include <faiss_ext/codes/packed_block.h>
#include <faiss_ext/io/clone_quantizer.h>
#include <faiss_ext/memory/row_types.h>

namespace faiss_ext {

namespace {

constexpr size_t kBlock = 32;

/** Where Faiss' codes live: our rotated space, with zeros behind the last
 * dimension so that all blocks are equally wide. Dimensions without codes get
 * blocks whose codewords are zeros. */
struct CodeSpace {
    const IndexState& state;
    size_t sub_dim;
    size_t M; ///< at least that of our codes
    size_t d;

    explicit CodeSpace(const IndexState& state) : state(state) {
        const std::vector<uint32_t>& offsets = state.model->pq.offsets();
        const size_t coded = state.model->pq.M();
        sub_dim = offsets[1];
        for (size_t m = 0; m + 1 < coded; m++) {
            FAISS_THROW_IF_NOT_FMT(
                    offsets[m + 1] - offsets[m] == sub_dim,
                    "cannot export to Faiss: block %zu has %u dimensions, "
                    "others %zu",
                    m,
                    offsets[m + 1] - offsets[m],
                    sub_dim);
        }
        FAISS_THROW_IF_NOT_MSG(
                offsets[coded] - offsets[coded - 1] <= sub_dim,
                "cannot export to Faiss: the last block is wider than others");
        M = (state.d() + sub_dim - 1) / sub_dim;
        d = sub_dim * M;
    }

    bool is_plain() const {
        return state.model->rotation.is_identity() && d == state.d();
    }

    /// converts rows to this space
    std::vector<float> map(size_t n, const float* x) const {
        std::vector<float> rotated(n * state.d()), out(n * d);
        const Rotation& rotation = state.model->rotation;
        if (rotation.is_identity()) {
            std::copy(x, x + n * state.d(), rotated.begin());
        } else {
            rotation.apply(n, x, rotated.data());
        }
        for (size_t i = 0; i < n; i++) {
            std::copy_n(&rotated[i * state.d()], state.d(), &out[i * d]);
        }
        return out;
    }

    std::unique_ptr<faiss::LinearTransform> transform() const {
        size_t d_in = state.d();
        auto out = std::make_unique<faiss::LinearTransform>(d_in, d, false);
        out->A.assign(d * d_in, 0);
        const std::vector<float>& matrix = state.model->rotation.matrix();
        std::copy(matrix.begin(), matrix.end(), out->A.begin());
        if (matrix.empty()) {
            for (size_t i = 0; i < d_in; i++) {
                out->A[i * d_in + i] = 1;
            }
        }
        out->is_trained = true;
        out->set_is_orthonormal();
        return out;
    }
};

std::unique_ptr<faiss::Index> export_quantizer(const CodeSpace& space) {
    const IndexState& state = space.state;
    if (space.is_plain()) {
        return clone_quantizer(*state.ivf.quantizer);
    }
    std::vector<float> centroids(state.ivf.nlist * state.d());
    state.ivf.quantizer->reconstruct_n(0, state.ivf.nlist, centroids.data());
    auto flat =
            std::make_unique<faiss::IndexFlat>(space.d, state.ivf.metric_type);
    flat->add(
            state.ivf.nlist,
            space.map(state.ivf.nlist, centroids.data()).data());
    return flat;
}

/// Codes of a list as Faiss wants them before packing: two per byte, low
/// nibble first, zeros behind ours.
std::vector<uint8_t>
nibbles_of(const ScaNNLists& lists, size_t list_no, size_t faiss_M) {
    size_t M = lists.layout().M;
    size_t n = lists.list(list_no).size();
    const size_t bytes = (faiss_M + 1) / 2;
    std::vector<uint8_t> codes(n * M), nibbles(n * bytes);
    unpack_codes(
            lists.layout().packed(),
            lists.list(list_no).packed.data(),
            n,
            0,
            n,
            codes.data(),
            nullptr);
    for (size_t i = 0; i < n; i++) {
        for (size_t m = 0; m < M; m++) {
            nibbles[i * bytes + m / 2] |= codes[i * M + m] << (m % 2 * 4);
        }
    }
    return nibbles;
}

void export_list(
        const ScaNNLists& lists,
        size_t list_no,
        size_t M,
        size_t M2,
        faiss::BlockInvertedLists& out) {
    size_t n = lists.list(list_no).size();
    if (n == 0) {
        return;
    }
    // not add_entries(): whether it takes packed codes differs between releases
    out.resize(list_no, n);
    std::copy_n(lists.list(list_no).ids.data(), n, out.ids[list_no].data());
    std::vector<uint8_t> nibbles = nibbles_of(lists, list_no, M);
    faiss::pq4_pack_codes(
            nibbles.data(),
            n,
            M,
            (n + kBlock - 1) / kBlock * kBlock,
            kBlock,
            M2,
            out.codes[list_no].get());
}

std::unique_ptr<faiss::IndexIVFPQFastScan> export_codes(
        const CodeSpace& space) {
    const IndexState& state = space.state;
    const ScoreAwarePQ& pq = state.model->pq;
    std::unique_ptr<faiss::Index> quantizer = export_quantizer(space);
    auto out = std::make_unique<faiss::IndexIVFPQFastScan>(
            quantizer.get(),
            space.d,
            state.ivf.nlist,
            space.M,
            4,
            state.ivf.metric_type,
            int(kBlock));
    quantizer.release();
    out->own_fields = true;
    out->by_residual = true;
    const float* codebook = pq.codebook().data();
    for (size_t i = 0; i < space.d; i++) {
        size_t m = i / space.sub_dim;
        for (size_t j = 0; j < 16; j++) {
            out->pq.get_centroids(m, j)[i % space.sub_dim] =
                    i < pq.d() ? codebook[i * 16 + j] : 0;
        }
    }
    auto& lists = dynamic_cast<faiss::BlockInvertedLists&>(*out->invlists);
    for (size_t l = 0; l < state.ivf.nlist; l++) {
        export_list(*state.lists, l, space.M, out->M2, lists);
        out->ntotal += state.lists->list(l).size();
    }
    out->is_trained = true;
    out->nprobe = state.ivf.nprobe;
    // needed by searches only; faiss::read_index makes it itself
    out->precompute_table();
    return out;
}

std::unique_ptr<faiss::IndexPreTransform> behind(
        std::unique_ptr<faiss::VectorTransform> transform,
        std::unique_ptr<faiss::Index> index) {
    auto out = std::make_unique<faiss::IndexPreTransform>(
            transform.get(), index.get());
    transform.release();
    index.release();
    out->own_fields = true;
    return out;
}

/// The raw rows in the order of their ids.
std::vector<float> raw_rows(const IndexState& state, size_t n) {
    std::vector<float> rows(n * state.d());
    std::vector<bool> seen(n, false);
    const ScaNNLists& lists = *state.lists;
    for (size_t l = 0; l < lists.nlist; l++) {
        for (size_t i = 0; i < lists.list(l).size(); i++) {
            int64_t id = lists.list(l).ids[i];
            FAISS_THROW_IF_NOT_FMT(
                    id >= 0 && size_t(id) < n && !seen[id],
                    "cannot export raw rows to IndexRefineFlat: id %lld is "
                    "double or not in 0..%zd (ids must be 0..ntotal-1)",
                    static_cast<long long>(id),
                    ssize_t(n) - 1);
            seen[id] = true;
            const uint8_t* raw = lists.raw_row(l, i);
            float* row = &rows[id * state.d()];
            to_floats(state.options.raw_type, state.d(), raw, row);
            if (state.options.normalize) {
                float factor;
                std::memcpy(
                        &factor,
                        raw + lists.layout().raw_value_bytes(),
                        sizeof(factor));
                std::transform(row, row + state.d(), row, [&](float value) {
                    return value * factor;
                });
            }
        }
    }
    return rows;
}

} // namespace

std::unique_ptr<faiss::Index> export_index(const IndexState& state) {
    FAISS_THROW_IF_NOT_MSG(
            state.ivf.is_trained, "cannot export to Faiss: not trained");
    CodeSpace space(state);
    std::unique_ptr<faiss::IndexIVFPQFastScan> codes = export_codes(space);
    size_t n = codes->ntotal;
    std::unique_ptr<faiss::Index> out = std::move(codes);
    if (!space.is_plain()) {
        out = behind(space.transform(), std::move(out));
    }
    if (state.options.with_raw_data) {
        std::vector<float> rows = raw_rows(state, n);
        auto refined = std::make_unique<faiss::IndexRefineFlat>(
                out.get(), rows.data());
        out.release();
        refined->own_fields = true;
        refined->own_refine_index = true;
        // candidates of our own searches by default at k = 10 (search_plan)
        refined->k_factor = 10;
        out = std::move(refined);
    }
    if (state.options.normalize) {
        out = behind(
                std::make_unique<faiss::NormalizationTransform>(state.d()),
                std::move(out));
    }
    return out;
}

} // namespace faiss_ext
