#include <faiss_ext/io/faiss_bytes.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <limits>
#include <string>

#include <faiss/IndexIVFPQ.h>
#include <faiss/impl/FaissException.h>
#include <faiss/index_io.h>

#include <faiss_ext/io/faiss_byte_cursor.h>
#include <faiss_ext/io/faiss_bytes_parts.h>
#include <faiss_ext/io/faiss_codes.h>
#include <faiss_ext/io/faiss_layers.h>

namespace faiss_ext {

namespace {

/// wrappers around wrappers, and transforms in a chain
constexpr size_t kMaxParts = 64;

struct KindCode {
    FaissKind kind;
    const char* code;

    const char* name() const {
        return faiss_class_name(code);
    }
};

constexpr KindCode kKinds[] = {
        {FaissKind::Flat, "IxF2"},
        {FaissKind::Flat, "IxFI"},
        {FaissKind::ScalarQuantizer, "IxSQ"},
        {FaissKind::PQ, "IxPq"},
        {FaissKind::HNSWFlat, "IHNf"},
        {FaissKind::HNSWSQ, "IHNs"},
        {FaissKind::HNSWPQ, "IHNp"},
        {FaissKind::IVFFlat, "IwFl"},
        {FaissKind::IVFPQ, "IwPQ"},
        {FaissKind::IVFPQFastScan, "IwPf"},
        {FaissKind::IVFScalarQuantizer, "IwSq"},
        {FaissKind::IDMap, "IxMp"},
        {FaissKind::IDMap2, "IxM2"},
        {FaissKind::PreTransform, "IxPT"},
        {FaissKind::Refine, "IxRF"},
};

const char* name_of(faiss::MetricType metric) {
    return metric == faiss::METRIC_INNER_PRODUCT ? "inner product" : "L2";
}

/// One walk over the bytes of an index.
class IndexChecker {
 public:
    /// Who made the index.
    enum class Origin {
        Host,  ///< a host of ours: ids in lists are the rows, quantizers flat
        Anyone ///< for import: any ids, any direct map
    };

    IndexChecker(std::span<const uint8_t> bytes, Origin origin)
            : cursor_(bytes), size_(bytes.size()), origin_(origin) {}

    FaissContents check(const FaissExpected& expected);
    FaissLayer layers(const std::vector<FaissKind>& kinds);

 private:
    using Kinds = std::vector<FaissKind>;

    FaissLayer index(const Kinds& allowed);
    std::unique_ptr<FaissLayer> part(const Kinds& allowed) {
        return std::make_unique<FaissLayer>(index(allowed));
    }
    const KindCode& known_kind(const Kinds& allowed);
    FaissContents header(const KindCode& kind);
    void check_part(
            const char* what,
            const FaissContents& part,
            const FaissContents& whole);

    void flat(FaissLayer& layer);
    void scalar_quantizer(FaissLayer& layer);
    void pq(FaissLayer& layer);
    void hnsw(FaissLayer& layer, FaissKind storage);
    void ivf(FaissLayer& layer);
    void direct_map(FaissLayer& layer);
    void block_codes(FaissLayer& layer, ListRules rules);
    void id_map(FaissLayer& layer, const Kinds& allowed);
    void pre_transform(FaissLayer& layer, const Kinds& allowed);
    void refine(FaissLayer& layer, const Kinds& allowed);

    FaissByteCursor cursor_;
    uint64_t size_; ///< of all bytes
    Origin origin_;
};

const KindCode& IndexChecker::known_kind(const Kinds& allowed) {
    auto is_allowed = [&](FaissKind kind) {
        return std::find(allowed.begin(), allowed.end(), kind) != allowed.end();
    };
    std::string code = cursor_.get_code();
    std::string known;
    for (const KindCode& kind : kKinds) {
        if (!is_allowed(kind.kind)) {
            continue;
        }
        if (code == kind.code) {
            return kind;
        }
        if (known.find(kind.name()) == std::string::npos) {
            known += (known.empty() ? "" : ", ") + std::string(kind.name());
        }
    }
    const char* name = faiss_class_name(code);
    std::string what = name == nullptr ? "a kind of index" : name;
    if (std::none_of(std::begin(kKinds), std::end(kKinds), [&](auto& kind) {
            return code == kind.code;
        })) {
        what += " that is not read here";
    }
    cursor_.fail(
            "\"" + code + "\" is " + what + " (allowed here: " + known + ")");
}

FaissContents IndexChecker::header(const KindCode& kind) {
    FaissContents found;
    found.kind = kind.kind;
    // the products of both, in bits, do not overflow
    constexpr int64_t kMaxRows = int64_t(1) << 40;
    found.d = cursor_.get_in<int32_t>("d", 1, kMaxDimensions);
    found.ntotal = cursor_.get_in<int64_t>("ntotal", 0, kMaxRows);
    cursor_.get<int64_t>("unused");
    cursor_.get<int64_t>("unused");
    found.is_trained = cursor_.get_flag("is_trained");
    found.metric = faiss::MetricType(cursor_.get_in<int32_t>(
            "metric_type", faiss::METRIC_INNER_PRODUCT, faiss::METRIC_L2));
    if (!found.is_trained && origin_ == Origin::Anyone) {
        cursor_.fail("the index is not trained");
    }
    if (!found.is_trained) {
        cursor_.check_is(
                "ntotal of an untrained index", found.ntotal, int64_t(0));
    }
    return found;
}

void IndexChecker::check_part(
        const char* what,
        const FaissContents& part,
        const FaissContents& whole) {
    FaissByteCursor::Part place(cursor_, what);
    cursor_.check_is("ntotal", part.ntotal, whole.ntotal);
    cursor_.check_is("metric_type", int(part.metric), int(whole.metric));
}

FaissLayer IndexChecker::index(const Kinds& allowed) {
    const KindCode& kind = known_kind(allowed);
    FaissByteCursor::Part part(cursor_, kind.name());
    if (cursor_.depth() > kMaxParts) {
        throw faiss::FaissException(
                "indexes in indexes, more than " + std::to_string(kMaxParts) +
                " deep");
    }
    FaissLayer layer;
    layer.contents = header(kind);
    switch (kind.kind) {
        case FaissKind::Flat:
            cursor_.check_is(
                    "metric_type",
                    int(layer.contents.metric),
                    kind.code[3] == 'I' ? int(faiss::METRIC_INNER_PRODUCT)
                                        : int(faiss::METRIC_L2));
            flat(layer);
            break;
        case FaissKind::ScalarQuantizer:
            scalar_quantizer(layer);
            break;
        case FaissKind::PQ:
            pq(layer);
            break;
        case FaissKind::HNSWFlat:
            hnsw(layer, FaissKind::Flat);
            break;
        case FaissKind::HNSWSQ:
            hnsw(layer, FaissKind::ScalarQuantizer);
            break;
        case FaissKind::HNSWPQ:
            hnsw(layer, FaissKind::PQ);
            break;
        case FaissKind::IVFFlat:
        case FaissKind::IVFPQ:
        case FaissKind::IVFPQFastScan:
        case FaissKind::IVFScalarQuantizer:
            ivf(layer);
            break;
        case FaissKind::IDMap:
        case FaissKind::IDMap2:
            id_map(layer, allowed);
            break;
        case FaissKind::PreTransform:
            pre_transform(layer, allowed);
            break;
        case FaissKind::Refine:
            refine(layer, allowed);
            break;
    }
    return layer;
}

void IndexChecker::flat(FaissLayer& layer) {
    const FaissContents& whole = layer.contents;
    cursor_.check_is("is_trained", int(whole.is_trained), 1);
    layer.code_size = uint64_t(whole.d) * sizeof(float);
    cursor_.get_in<uint64_t>(
            "vectors",
            uint64_t(whole.ntotal * whole.d),
            uint64_t(whole.ntotal * whole.d));
    std::span<const uint8_t> rest = cursor_.rest();
    cursor_.floats("vectors", uint64_t(whole.ntotal * whole.d));
    layer.codes = cursor_.read_since(rest);
}

void IndexChecker::scalar_quantizer(FaissLayer& layer) {
    const FaissContents& whole = layer.contents;
    layer.sq = check_scalar_quantizer(cursor_, whole.d, whole.is_trained);
    layer.code_size = layer.sq.code_size;
    const uint64_t size = uint64_t(whole.ntotal) * layer.code_size;
    cursor_.get_in<uint64_t>("codes", size, size);
    layer.codes = cursor_.bytes("codes", size);
}

void IndexChecker::pq(FaissLayer& layer) {
    const FaissContents& whole = layer.contents;
    layer.pq = check_product_quantizer(cursor_, whole.d);
    layer.code_size = layer.pq.code_size();
    const uint64_t size = uint64_t(whole.ntotal) * layer.code_size;
    cursor_.get_in<uint64_t>("codes", size, size);
    layer.codes = cursor_.bytes("codes", size);
    // other search types use tables that the bytes do not contain
    cursor_.check_is("search_type", cursor_.get<int32_t>("search_type"), 0);
    cursor_.get_flag("encode_signs");
    cursor_.get<int32_t>("polysemous_ht");
}

void IndexChecker::hnsw(FaissLayer& layer, FaissKind storage) {
    const FaissContents& whole = layer.contents;
    cursor_.check_in<int64_t>(
            "ntotal", whole.ntotal, 0, std::numeric_limits<int32_t>::max());
    check_graph(cursor_, whole.ntotal);
    FaissLayer rows;
    {
        FaissByteCursor::Part part(cursor_, "storage");
        rows = index({storage});
        cursor_.check_is("d", rows.contents.d, whole.d);
        cursor_.check_is(
                "is_trained", rows.contents.is_trained, whole.is_trained);
    }
    check_part("storage", rows.contents, whole);
    if (storage == FaissKind::PQ) {
        // Faiss makes a table of the distances of all pairs of centroids:
        // 32 MB, or as much as the bytes
        const uint64_t most_pairs =
                std::max<uint64_t>(1 << 23, size_ / sizeof(float));
        cursor_.check_in(
                "M * 2^(2 * nbits) of the storage",
                rows.pq.M << 2 * rows.pq.nbits,
                uint64_t(0),
                most_pairs);
    }
    layer.codes = rows.codes;
    layer.code_size = rows.code_size;
}

void IndexChecker::direct_map(FaissLayer& layer) {
    const uint8_t most = origin_ == Origin::Anyone ? 2 : 0; // no node has one
    const int type = cursor_.get_in<uint8_t>("direct_map", 0, most);
    layer.has_direct_map = type != 0;
    const uint64_t rows = uint64_t(layer.contents.ntotal);
    cursor_.vector<int64_t>("direct_map.array", 0, type == 1 ? rows : 0);
    if (type == 2) { // pairs, of which the size is the number
        uint64_t n = cursor_.get_in<uint64_t>("direct_map.hashtable", 0, rows);
        cursor_.column<int64_t>("direct_map.hashtable", 2 * n);
    }
}

void IndexChecker::block_codes(FaissLayer& layer, ListRules rules) {
    constexpr int kMaxBlockRows = 1 << 16;
    const int block = cursor_.get_in<int32_t>("bbs", 32, kMaxBlockRows);
    cursor_.check_is("bbs modulo 32", block % 32, 0);
    const uint64_t M2 = cursor_.get<uint64_t>("M2");
    cursor_.get<int32_t>("implem");
    cursor_.get<uint64_t>("qbs2");
    layer.pq = check_product_quantizer(cursor_, layer.contents.d);
    cursor_.check_is("nbits", layer.pq.nbits, uint64_t(4));
    cursor_.check_is("M2", M2, (layer.pq.M + 1) / 2 * 2);
    cursor_.check_is("code_size", layer.code_size, M2 / 2);
    layer.block_rows = uint64_t(block);
    check_block_lists(cursor_, rules, layer.block_rows, &layer.lists);
}

void IndexChecker::ivf(FaissLayer& layer) {
    constexpr uint64_t kMaxLists = std::numeric_limits<int32_t>::max();
    const FaissContents& whole = layer.contents;
    cursor_.check_is("is_trained", int(whole.is_trained), 1);
    uint64_t nlist = cursor_.get_in<uint64_t>("nlist", 1, kMaxLists);
    layer.nlist = nlist;
    layer.nprobe = cursor_.get_in<uint64_t>(
            "nprobe", 1, std::numeric_limits<uint64_t>::max());
    {
        FaissByteCursor::Part in(cursor_, "quantizer");
        layer.quantizer =
                part(origin_ == Origin::Host
                             ? Kinds{FaissKind::Flat}
                             : Kinds{FaissKind::Flat, FaissKind::HNSWFlat});
        const FaissContents& centroids = layer.quantizer->contents;
        cursor_.check_is("d", centroids.d, whole.d);
        cursor_.check_is("ntotal", centroids.ntotal, int64_t(nlist));
        cursor_.check_is(
                "metric_type", int(centroids.metric), int(whole.metric));
    }
    direct_map(layer);
    ListRules rules;
    rules.nlist = nlist;
    rules.rows = whole.ntotal;
    rules.ids_are_rows = origin_ == Origin::Host;
    std::vector<FaissList>* lists =
            origin_ == Origin::Host ? nullptr : &layer.lists;
    switch (whole.kind) {
        case FaissKind::IVFFlat:
            rules.floats = true;
            layer.code_size = uint64_t(whole.d) * sizeof(float);
            break;
        case FaissKind::IVFScalarQuantizer:
            layer.sq = check_scalar_quantizer(cursor_, whole.d, true);
            layer.code_size = cursor_.get<uint64_t>("code_size");
            cursor_.check_is("code_size", layer.code_size, layer.sq.code_size);
            layer.by_residual = cursor_.get_flag("by_residual");
            break;
        default:
            layer.by_residual = cursor_.get_flag("by_residual");
            layer.code_size = cursor_.get<uint64_t>("code_size");
            if (whole.kind == FaissKind::IVFPQFastScan) {
                rules.code_size = layer.code_size;
                block_codes(layer, rules);
                return;
            }
            layer.pq = check_product_quantizer(cursor_, whole.d);
            cursor_.check_is(
                    "code_size", layer.code_size, layer.pq.code_size());
    }
    rules.code_size = layer.code_size;
    check_inverted_lists(cursor_, rules, lists);
}

void IndexChecker::id_map(FaissLayer& layer, const Kinds& allowed) {
    layer.below = part(allowed);
    const FaissContents& inner = layer.below->contents;
    cursor_.check_is("d of the index inside", inner.d, layer.contents.d);
    check_part("the index inside", inner, layer.contents);
    layer.ids =
            cursor_.vector<int64_t>("id_map", uint64_t(layer.contents.ntotal));
}

void IndexChecker::pre_transform(FaissLayer& layer, const Kinds& allowed) {
    const FaissContents& whole = layer.contents;
    int length = cursor_.get_in<int32_t>("length of chain", 0, kMaxParts);
    int64_t d = whole.d;
    for (int i = 0; i < length; i++) {
        std::span<const uint8_t> rest = cursor_.rest();
        TransformShape transform = check_transform(cursor_);
        layer.transforms.push_back(cursor_.read_since(rest));
        cursor_.check_is("d_in of a transform", transform.d_in, d);
        if (whole.is_trained && !transform.is_trained) {
            cursor_.fail("a transform is not trained, but the index is");
        }
        d = transform.d_out;
    }
    layer.below = part(allowed);
    const FaissContents& inner = layer.below->contents;
    cursor_.check_is("d of the index inside", inner.d, d);
    check_part("the index inside", inner, whole);
}

void IndexChecker::refine(FaissLayer& layer, const Kinds& allowed) {
    const FaissContents& whole = layer.contents;
    layer.below = part(allowed);
    cursor_.check_is("d of base_index", layer.below->contents.d, whole.d);
    check_part("base_index", layer.below->contents, whole);
    layer.refine =
            part({FaissKind::Flat, FaissKind::ScalarQuantizer, FaissKind::PQ});
    cursor_.check_is("d of refine_index", layer.refine->contents.d, whole.d);
    check_part("refine_index", layer.refine->contents, whole);
    cursor_.get_finite("k_factor");
}

FaissContents IndexChecker::check(const FaissExpected& expected) {
    FaissContents found = index(expected.kinds).contents;
    cursor_.finish();
    if (expected.metric && *expected.metric != found.metric) {
        cursor_.fail(
                std::string("its metric is ") + name_of(found.metric) +
                " (expected: " + name_of(*expected.metric) + ")");
    }
    if (expected.d) {
        cursor_.check_is("its dimension", found.d, *expected.d);
    }
    if (expected.ntotal) {
        cursor_.check_is("its number of rows", found.ntotal, *expected.ntotal);
    }
    if (expected.is_trained) {
        cursor_.check_is(
                "is_trained", int(found.is_trained), int(*expected.is_trained));
    }
    return found;
}

FaissLayer IndexChecker::layers(const Kinds& kinds) {
    FaissLayer layer = index(kinds);
    cursor_.finish();
    return layer;
}

/** Faiss' own limit is 2 GB, whatever the bytes. Nodes keep at least 39 rows a
 * list, so that the table has at most 24 times their bytes. More than 192 MB
 * only in blobs of some size: a load takes at most 256 MB and 8 times its
 * bytes. */
void add_table(faiss::IndexIVFPQ& index, size_t bytes) {
    constexpr size_t kMega = size_t(1) << 20;
    const size_t limit =
            std::max(64 * kMega, std::min(24 * bytes, 192 * kMega + 6 * bytes));
    size_t table = index.nlist * index.pq.M * index.pq.ksub * sizeof(float);
    if (table <= limit) {
        index.precompute_table();
    }
}

} // namespace

const char* name_of(FaissKind kind) {
    for (const KindCode& known : kKinds) {
        if (known.kind == kind) {
            return known.name();
        }
    }
    return "";
}

FaissContents check_faiss_bytes(
        std::span<const uint8_t> bytes,
        const FaissExpected& expected) {
    return IndexChecker(bytes, IndexChecker::Origin::Host).check(expected);
}

FaissLayer check_faiss_layers(std::span<const uint8_t> bytes) {
    return IndexChecker(bytes, IndexChecker::Origin::Anyone)
            .layers(
                    {FaissKind::Flat,
                     FaissKind::ScalarQuantizer,
                     FaissKind::PQ,
                     FaissKind::HNSWFlat,
                     FaissKind::IVFFlat,
                     FaissKind::IVFPQ,
                     FaissKind::IVFPQFastScan,
                     FaissKind::IVFScalarQuantizer,
                     FaissKind::IDMap,
                     FaissKind::IDMap2,
                     FaissKind::PreTransform,
                     FaissKind::Refine});
}

std::unique_ptr<faiss::Index> read_faiss_bytes(
        std::span<const uint8_t> bytes,
        const FaissExpected& expected) {
    check_faiss_bytes(bytes, expected);
    SpanReader reader(bytes);
    std::unique_ptr<faiss::Index> index(
            faiss::read_index(&reader, faiss::IO_FLAG_SKIP_PRECOMPUTE_TABLE));
    if (auto ivf_pq = dynamic_cast<faiss::IndexIVFPQ*>(index.get())) {
        add_table(*ivf_pq, bytes.size());
    }
    return index;
}

size_t SpanReader::operator()(void* out, size_t size, size_t count) {
    size_t items = size == 0 ? 0 : std::min(count, bytes_.size() / size);
    if (items != 0) {
        std::memcpy(out, bytes_.data(), items * size);
    }
    bytes_ = bytes_.subspan(items * size);
    return items;
}

} // namespace faiss_ext
