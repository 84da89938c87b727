#include <faiss_ext/io/faiss_rows.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include <faiss/impl/FaissAssert.h>
#include <faiss/impl/ProductQuantizer.h>
#include <faiss/impl/ScalarQuantizer.h>
#include <faiss/index_io.h>

#include <faiss_ext/faiss_compat.h>
#include <faiss_ext/memory/parallel.h>

namespace faiss_ext {

namespace {

/// Rows that one thread decodes at a time.
constexpr size_t kRowsAtATime = 1024;
/// Centroids that rows do not justify may have so many floats, 64 MB.
constexpr size_t kFreeFloats = size_t(1) << 24;

std::vector<float> floats_of(const Column<float>& column) {
    std::vector<float> values(column.size());
    for (size_t i = 0; i < values.size(); i++) {
        values[i] = column[i];
    }
    return values;
}

/// The code m of row i of a list of interleaved 4-bit codes: of 32 rows the
/// first 16 are the low nibbles, rows 0, 8, 1, 9, .. of them in turn. Faiss'
/// pq4_get_packed_element is wrong for blocks above 32 rows (1.7.3, 1.11).
uint8_t
block_code(const FaissLayer& layer, const uint8_t* codes, size_t i, size_t m) {
    const size_t block = layer.block_rows;
    const size_t in_32 = i % 32, in_16 = in_32 % 16;
    const uint8_t byte =
            codes[i / block * block * layer.code_size + m / 2 * block +
                  i % block / 32 * 32 + m % 2 * 16 +
                  (in_16 < 8 ? 2 * in_16 : 2 * in_16 - 15)];
    return in_32 < 16 ? byte & 15 : byte >> 4;
}

bool has_orthonormal_columns(const faiss::LinearTransform& transform) {
    const size_t d_in = transform.d_in, d_out = transform.d_out;
    constexpr double kAlmost = 1e-3;
    if (d_out < d_in || transform.A.size() != d_in * d_out) {
        return false;
    }
    std::vector<double> products(d_in * d_in);
    for (size_t k = 0; k < d_out; k++) {
        const float* row = &transform.A[k * d_in];
        for (size_t i = 0; i < d_in; i++) {
            for (size_t j = 0; j <= i; j++) {
                products[i * d_in + j] += double(row[i]) * row[j];
            }
        }
    }
    for (size_t i = 0; i < d_in; i++) {
        for (size_t j = 0; j <= i; j++) {
            const double wanted = i == j ? 1 : 0;
            if (!(std::abs(products[i * d_in + j] - wanted) < kAlmost)) {
                return false;
            }
        }
    }
    return true;
}

std::vector<std::unique_ptr<faiss::VectorTransform>> read_transforms(
        const FaissLayer& layer) {
    std::vector<std::unique_ptr<faiss::VectorTransform>> transforms;
    for (std::span<const uint8_t> bytes : layer.transforms) {
        SpanReader reader(bytes);
        transforms.emplace_back(faiss::read_VectorTransform(&reader));
    }
    return transforms;
}

} // namespace

/// Codes -> rows, or residuals.
class FaissRows::Codec {
 public:
    explicit Codec(const FaissLayer& layer)
            : layer_(layer), d_(size_t(layer.contents.d)) {
        const FaissKind kind = layer.contents.kind;
        if (layer.pq.M > 0) {
            pq_.emplace(d_, layer.pq.M, layer.pq.nbits);
            pq_->centroids = floats_of(layer.pq.centroids);
        } else if (
                kind == FaissKind::ScalarQuantizer ||
                kind == FaissKind::IVFScalarQuantizer) {
            sq_.emplace(
                    d_, faiss::ScalarQuantizer::QuantizerType(layer.sq.type));
            sq_->trained = floats_of(layer.sq.trained);
        }
    }
    const FaissLayer& layer() const {
        return layer_;
    }
    /// @param begin, end  rows of these codes
    void decode(
            std::span<const uint8_t> codes,
            size_t begin,
            size_t end,
            float* rows) const {
        const size_t n = end - begin;
        if (layer_.block_rows > 0) {
            std::vector<uint8_t> nibbles(n * layer_.code_size);
            for (size_t i = 0; i < n; i++) {
                for (size_t m = 0; m < layer_.pq.M; m++) {
                    nibbles[i * layer_.code_size + m / 2] |=
                            block_code(layer_, codes.data(), begin + i, m)
                            << (m % 2 * 4);
                }
            }
            decode(nibbles.data(), n, rows);
            return;
        }
        decode(codes.data() + begin * layer_.code_size, n, rows);
    }

 private:
    void decode(const uint8_t* codes, size_t n, float* rows) const {
        if (pq_) {
            pq_->decode(codes, rows, n);
        } else if (sq_) {
            sq_->decode(codes, rows, n);
        } else {
            to_floats(RowType::Float32, n * d_, codes, rows);
        }
    }

    const FaissLayer& layer_;
    size_t d_;
    std::optional<faiss::ProductQuantizer> pq_;
    std::optional<faiss::ScalarQuantizer> sq_;
};

FaissRows::FaissRows(FaissLayer root) : root_(std::move(root)) {
    find_path();
    const size_t nlist = has_lists() ? leaf_->lists.size() : 1;
    starts_.resize(nlist + 1);
    for (size_t l = 0; l < nlist; l++) {
        starts_[l + 1] =
                starts_[l] + (has_lists() ? leaf_->lists[l].ids.size()
                                          : size_t(leaf_->contents.ntotal));
    }
    const bool refined = refine_ < path_.size();
    codec_ =
            std::make_unique<Codec>(refined ? *path_[refine_]->refine : *leaf_);
    if (leaf_->by_residual && !refined) {
        list_centroids_ = leaf_centroids();
    }
    // all ids are looked at before anybody trusts one
    for (size_t l = 0; l < nlist; l++) {
        const size_t size = starts_[l + 1] - starts_[l];
        for (size_t i = 0; i < size; i++) {
            const int64_t id =
                    has_lists() ? leaf_->lists[l].ids[i] : int64_t(i);
            if (refined) {
                const int64_t row = outer_id(id, refine_ + 1);
                FAISS_THROW_IF_NOT_FMT(
                        row >= 0 && row < root_.contents.ntotal,
                        "IndexRefine has no row for the id %lld (its rows: "
                        "0..%lld)",
                        static_cast<long long>(row),
                        static_cast<long long>(root_.contents.ntotal - 1));
            }
            FAISS_THROW_IF_NOT_MSG(
                    outer_id(id, 0) != -1,
                    "a row has the id -1, which stands for no result");
        }
    }
}

FaissRows::~FaissRows() = default;

void FaissRows::find_path() {
    for (const FaissLayer* at = &root_; at != nullptr; at = at->below.get()) {
        path_.push_back(at);
    }
    leaf_ = path_.back();
    refine_ = path_.size();
    for (size_t i = path_.size(); i-- > 0;) {
        if (path_[i]->refine != nullptr) {
            refine_ = i;
        }
    }
}

/// The id that the layer `until` gives to what is `id` in the leaf.
int64_t FaissRows::outer_id(int64_t id, size_t until) const {
    for (size_t i = path_.size(); i-- > until;) {
        const FaissLayer& layer = *path_[i];
        if (layer.contents.kind != FaissKind::IDMap &&
            layer.contents.kind != FaissKind::IDMap2) {
            continue;
        }
        FAISS_THROW_IF_NOT_FMT(
                id >= 0 && uint64_t(id) < layer.ids.size(),
                "IndexIDMap has no id for the row %lld (its rows: 0..%lld)",
                static_cast<long long>(id),
                static_cast<long long>(layer.ids.size()) - 1);
        id = layer.ids[uint64_t(id)];
    }
    return id;
}

size_t FaissRows::d() const {
    return size_t(codec_->layer().contents.d);
}

RowStorage FaissRows::storage() const {
    using SQ = faiss::ScalarQuantizer;
    const FaissLayer& layer = codec_->layer();
    switch (layer.contents.kind) {
        case FaissKind::Flat:
        case FaissKind::HNSWFlat:
        case FaissKind::IVFFlat:
            return RowStorage::Raw;
        case FaissKind::ScalarQuantizer:
        case FaissKind::IVFScalarQuantizer:
            if (layer.sq.type == SQ::QT_fp16) {
                return RowStorage::FP16;
            }
#if FAISS_EXT_FAISS_VERSION >= 11000
            if (layer.sq.type == SQ::QT_bf16) {
                return RowStorage::BF16;
            }
#endif
            return RowStorage::Codes;
        default:
            return RowStorage::Codes;
    }
}

const char* FaissRows::storage_name() const {
    return name_of(codec_->layer().contents.kind);
}

bool FaissRows::finds_ids() const {
    return leaf_->has_direct_map ||
           std::any_of(path_.begin(), path_.end(), [](const FaissLayer* at) {
               return at->contents.kind == FaissKind::IDMap2;
           });
}

void FaissRows::decode_list(
        size_t list_no,
        size_t begin,
        size_t end,
        float* rows) const {
    const size_t d = this->d();
    if (refine_ < path_.size()) {
        for (size_t i = begin; i < end; i++) {
            const int64_t id =
                    has_lists() ? leaf_->lists[list_no].ids[i] : int64_t(i);
            const size_t row = size_t(outer_id(id, refine_ + 1));
            codec_->decode(
                    codec_->layer().codes,
                    row,
                    row + 1,
                    rows + (i - begin) * d);
        }
        return;
    }
    codec_->decode(
            has_lists() ? leaf_->lists[list_no].codes : leaf_->codes,
            begin,
            end,
            rows);
    if (leaf_->by_residual) {
        const float* centroid = &list_centroids_[list_no * d];
        for (size_t i = 0; i < (end - begin) * d; i++) {
            rows[i] += centroid[i % d];
        }
    }
}

void FaissRows::get(
        size_t begin,
        size_t end,
        float* rows,
        int64_t* ids,
        int64_t* lists) const {
    const size_t d = this->d();
    parallel_slices(end - begin, kRowsAtATime, [&](size_t from, size_t to) {
        size_t at = begin + from;
        const size_t stop = begin + to;
        size_t l =
                size_t(std::upper_bound(starts_.begin(), starts_.end(), at) -
                       starts_.begin() - 1);
        for (; at < stop; l++) {
            const size_t here = std::min(stop, starts_[l + 1]);
            const size_t first = at - starts_[l];
            if (here > at) {
                decode_list(
                        l, first, here - starts_[l], rows + (at - begin) * d);
            }
            for (; at < here; at++) {
                const size_t i = at - starts_[l];
                if (ids != nullptr) {
                    ids[at - begin] = outer_id(
                            has_lists() ? leaf_->lists[l].ids[i] : int64_t(i),
                            0);
                }
                if (lists != nullptr) {
                    lists[at - begin] = int64_t(l);
                }
            }
        }
    });
}

std::vector<float> FaissRows::leaf_centroids() const {
    const FaissLayer& quantizer = *leaf_->quantizer;
    std::vector<float> centroids(leaf_->nlist * size_t(leaf_->contents.d));
    std::memcpy(
            centroids.data(),
            quantizer.codes.data(),
            centroids.size() * sizeof(float));
    return centroids;
}

/// Vectors of the leaf's space in that of the rows. @return  false if the way
/// there does not keep lengths; `vectors` are of no use then
bool FaissRows::take_back(std::vector<float>& vectors) const {
    for (size_t i = path_.size() - 1; i > refine_; i--) {
        auto transforms = read_transforms(*path_[i]);
        for (size_t j = transforms.size(); j-- > 0;) {
            const faiss::VectorTransform& transform = *transforms[j];
            auto linear =
                    dynamic_cast<const faiss::LinearTransform*>(&transform);
            const bool is_orthonormal =
                    linear != nullptr && has_orthonormal_columns(*linear);
            const bool moves = dynamic_cast<const faiss::CenteringTransform*>(
                                       &transform) != nullptr;
            if (!is_orthonormal && !moves) {
                return false;
            }
            // d_in <= d_out now: no more memory than the vectors have
            const size_t n = vectors.size() / size_t(transform.d_out);
            std::vector<float> before(n * size_t(transform.d_in));
            if (is_orthonormal) {
                linear->transform_transpose(
                        int64_t(n), vectors.data(), before.data());
            } else {
                transform.reverse_transform(
                        int64_t(n), vectors.data(), before.data());
            }
            vectors = std::move(before);
        }
    }
    return true;
}

std::vector<float> FaissRows::means() const {
    const size_t d = this->d();
    // the bytes hold centroids of fewer dimensions, or of one
    const size_t most = std::max(n(), kFreeFloats / d);
    FAISS_THROW_IF_NOT_FMT(
            nlist() <= most,
            "nlist = %zu for %zu rows of %zu dimensions, of which the bytes "
            "hold no centroids (allowed: 1..%zu)",
            nlist(),
            n(),
            d,
            most);
    std::vector<float> means(nlist() * d), rows(kRowsAtATime * d);
    std::vector<double> sum(d), all(d);
    std::vector<size_t> empty;
    for (size_t l = 0; l < nlist(); l++) {
        std::fill(sum.begin(), sum.end(), 0);
        const size_t size = starts_[l + 1] - starts_[l];
        for (size_t at = starts_[l]; at < starts_[l + 1]; at += kRowsAtATime) {
            const size_t count = std::min(kRowsAtATime, starts_[l + 1] - at);
            get(at, at + count, rows.data(), nullptr, nullptr);
            for (size_t i = 0; i < count * d; i++) {
                sum[i % d] += rows[i];
            }
        }
        for (size_t j = 0; j < d; j++) {
            all[j] += sum[j] / double(n());
            means[l * d + j] = size == 0 ? 0 : float(sum[j] / double(size));
        }
        if (size == 0) {
            empty.push_back(l);
        }
    }
    for (size_t l : empty) { // amid all rows, where no search looks for any
        std::transform(all.begin(), all.end(), &means[l * d], [](double value) {
            return float(value);
        });
    }
    return means;
}

std::vector<float> FaissRows::centroids() const {
    std::vector<float> centroids = leaf_centroids();
    if (refine_ == path_.size() || take_back(centroids)) {
        return centroids;
    }
    return means();
}

std::vector<std::unique_ptr<faiss::VectorTransform>> FaissRows::transforms()
        const {
    std::vector<std::unique_ptr<faiss::VectorTransform>> found;
    for (size_t i = 0; i < std::min(refine_, path_.size()); i++) {
        for (auto& transform : read_transforms(*path_[i])) {
            found.push_back(std::move(transform));
        }
    }
    return found;
}

} // namespace faiss_ext
