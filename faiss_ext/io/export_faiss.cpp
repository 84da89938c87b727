/* export_to_faiss: our codes, centroids and rows in Faiss' own classes. */

#include <algorithm>
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

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/wrappers/clone.h>
#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>
#include <faiss_ext/codes/packed_block.h>

namespace faiss_ext {

namespace {

constexpr size_t kBlock = 32;

/** Where Faiss' codes live: our rotated space, with zeros behind the last
 * dimension so that all blocks are equally wide. */
struct CodeSpace {
    const IndexIVFScaNN& index;
    size_t sub_dim;
    size_t d;

    explicit CodeSpace(const IndexIVFScaNN& index) : index(index) {
        const std::vector<uint32_t>& offsets = index.pq().offsets();
        size_t M = index.pq().M();
        sub_dim = offsets[1];
        for (size_t m = 0; m + 1 < M; m++) {
            FAISS_THROW_IF_NOT_FMT(
                    offsets[m + 1] - offsets[m] == sub_dim,
                    "cannot export to Faiss: block %zu has %u dimensions, "
                    "others %zu",
                    m,
                    offsets[m + 1] - offsets[m],
                    sub_dim);
        }
        FAISS_THROW_IF_NOT_MSG(
                offsets[M] - offsets[M - 1] <= sub_dim,
                "cannot export to Faiss: the last block is wider than others");
        d = sub_dim * M;
    }

    bool is_plain() const {
        return index.rotation().is_identity() && d == size_t(index.d);
    }

    /// rows of our space in this one
    std::vector<float> map(size_t n, const float* x) const {
        std::vector<float> rotated(n * index.d), out(n * d);
        const Rotation& rotation = index.rotation();
        if (rotation.is_identity()) {
            std::copy(x, x + n * index.d, rotated.begin());
        } else {
            rotation.apply(n, x, rotated.data());
        }
        for (size_t i = 0; i < n; i++) {
            std::copy_n(&rotated[i * index.d], index.d, &out[i * d]);
        }
        return out;
    }

    std::unique_ptr<faiss::LinearTransform> transform() const {
        size_t d_in = index.d;
        auto out = std::make_unique<faiss::LinearTransform>(d_in, d, false);
        out->A.assign(d * d_in, 0);
        const std::vector<float>& matrix = index.rotation().matrix();
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
    const IndexIVFScaNN& index = space.index;
    if (space.is_plain()) {
        return clone_quantizer(*index.quantizer);
    }
    std::vector<float> centroids(index.nlist * index.d);
    index.quantizer->reconstruct_n(0, index.nlist, centroids.data());
    auto flat = std::make_unique<faiss::IndexFlat>(space.d, index.metric_type);
    flat->add(index.nlist, space.map(index.nlist, centroids.data()).data());
    return flat;
}

/// Codes of a list as Faiss wants them before packing: two per byte, low
/// nibble first.
std::vector<uint8_t> nibbles_of(const ScaNNLists& lists, size_t list_no) {
    size_t M = lists.layout().M;
    size_t n = lists.list(list_no).size();
    std::vector<uint8_t> codes(n * M), nibbles(n * ((M + 1) / 2));
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
            nibbles[i * ((M + 1) / 2) + m / 2] |= codes[i * M + m]
                                                  << (m % 2 * 4);
        }
    }
    return nibbles;
}

void export_list(
        const ScaNNLists& lists,
        size_t list_no,
        size_t M2,
        faiss::BlockInvertedLists& out) {
    size_t n = lists.list(list_no).size();
    if (n == 0) {
        return;
    }
    // resize() and not add_entries(): what that takes, packed codes or plain
    // ones, differs between releases.
    out.resize(list_no, n);
    std::copy_n(lists.list(list_no).ids.data(), n, out.ids[list_no].data());
    std::vector<uint8_t> nibbles = nibbles_of(lists, list_no);
    faiss::pq4_pack_codes(
            nibbles.data(),
            n,
            lists.layout().M,
            (n + kBlock - 1) / kBlock * kBlock,
            kBlock,
            M2,
            out.codes[list_no].get());
}

std::unique_ptr<faiss::IndexIVFPQFastScan> export_codes(
        const CodeSpace& space) {
    const IndexIVFScaNN& index = space.index;
    const ScoreAwarePQ& pq = index.pq();
    std::unique_ptr<faiss::Index> quantizer = export_quantizer(space);
    auto out = std::make_unique<faiss::IndexIVFPQFastScan>(
            quantizer.get(),
            space.d,
            index.nlist,
            pq.M(),
            4,
            index.metric_type,
            int(kBlock));
    quantizer.release();
    out->own_fields = true;
    out->by_residual = true;
    const float* codebook = pq.codebook().data();
    for (size_t i = 0; i < space.d; i++) {
        size_t m = i / space.sub_dim;
        for (size_t j = 0; j < 16; j++) {
            out->pq.get_centroids(m, j)[i % space.sub_dim] =
                    i < size_t(index.d) ? codebook[i * 16 + j] : 0;
        }
    }
    auto& lists = dynamic_cast<faiss::BlockInvertedLists&>(*out->invlists);
    for (size_t l = 0; l < index.nlist; l++) {
        export_list(index.lists(), l, out->M2, lists);
        out->ntotal += index.lists().list(l).size();
    }
    out->is_trained = true;
    out->nprobe = index.nprobe;
    // Only searches need it; faiss::read_index makes it by itself.
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
std::vector<float> raw_rows(const IndexIVFScaNN& index, size_t n) {
    std::vector<float> rows(n * index.d);
    std::vector<bool> seen(n, false);
    const ScaNNLists& lists = index.lists();
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
            const float* raw = lists.raw_row(l, i);
            float factor = index.options.normalize ? raw[index.d] : 1;
            std::transform(
                    raw, raw + index.d, &rows[id * index.d], [&](float value) {
                        return value * factor;
                    });
        }
    }
    return rows;
}

std::unique_ptr<faiss::Index> export_leaf(const IndexIVFScaNN& index) {
    FAISS_THROW_IF_NOT_MSG(
            index.is_trained, "cannot export to Faiss: not trained");
    CodeSpace space(index);
    std::unique_ptr<faiss::IndexIVFPQFastScan> codes = export_codes(space);
    size_t n = codes->ntotal;
    std::unique_ptr<faiss::Index> out = std::move(codes);
    if (!space.is_plain()) {
        out = behind(space.transform(), std::move(out));
    }
    if (index.options.with_raw_data) {
        std::vector<float> rows = raw_rows(index, n);
        auto refined = std::make_unique<faiss::IndexRefineFlat>(
                out.get(), rows.data());
        out.release();
        refined->own_fields = true;
        refined->own_refine_index = true;
        // what our own searches rescore by default at k = 10 (search_plan)
        refined->k_factor = 10;
        out = std::move(refined);
    }
    if (index.options.normalize) {
        out =
                behind(std::make_unique<faiss::NormalizationTransform>(index.d),
                       std::move(out));
    }
    return out;
}

} // namespace

faiss::Index* export_to_faiss(const faiss::Index* index) {
    const IndexIVFScaNN* scann = find_scann(index);
    FAISS_THROW_IF_NOT_MSG(
            scann != nullptr, "cannot export: there is no ScaNN index inside");
    return copy_wrappers(index, export_leaf(*scann), true).release();
}

} // namespace faiss_ext
