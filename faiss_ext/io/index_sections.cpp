#include <faiss_ext/io/index_sections.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include <faiss/IndexIDMap.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/wrappers/clone.h>
#include <faiss_ext/lists/direct_map.h>
#include <faiss_ext/partition/panels.h>
#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/memory/row_products.h>

namespace faiss_ext {

namespace {

/// Writes each field it is called with.
struct FieldWriter {
    SectionSink& sink;

    template <class T>
    void operator()(const T& field) {
        sink.put_value(field);
    }
    void operator()(const bool& field) {
        sink.put_value(uint8_t(field));
    }
};

/// Reads it; a bool or enum gets no value that it does not have.
struct FieldReader {
    ByteReader& reader;

    template <class T>
    void operator()(T& field) {
        reader.get_value(field);
    }
    void operator()(bool& field) {
        field = byte(1) != 0;
    }
    uint8_t byte(uint8_t largest) {
        uint8_t value;
        reader.get_value(value);
        reader.check(value <= largest, "a flag or kind out of range");
        return value;
    }
};

template <class Enum>
void transfer_enum(FieldWriter& fields, const Enum& value, Enum) {
    fields(uint8_t(value));
}

template <class Enum>
void transfer_enum(FieldReader& fields, Enum& value, Enum largest) {
    value = Enum(fields.byte(uint8_t(largest)));
}

// The order of these lines is the file format.
template <class Fields, class Header>
void transfer_header(Fields& fields, Header& h) {
    fields(h.d);
    fields(h.nlist);
    fields(h.ntotal);
    fields(h.metric);
    fields(h.is_trained);
    fields(h.verbose);
    fields(h.quantizer_trains_alone);
    fields(h.direct_map_type);
    fields(h.parallel_mode);
    fields(h.nprobe);
    fields(h.max_codes);
    fields(h.reorder_k);
    fields(h.refine_k);
    fields(h.calibration.target_recall);
    fields(h.calibration.k);
    fields(h.calibration.nprobe);
    fields(h.calibration.refine_k);
    fields(h.calibration.reorder_k);
    fields(h.calibration.recall);
    auto& o = h.options;
    fields(o.sub_dim);
    fields(o.M);
    fields(o.eta);
    fields(o.threshold);
    transfer_enum(fields, o.eta_formula, EtaFormula::Limit);
    transfer_enum(fields, o.rotation, RotationKind::Random);
    fields(o.normalize);
    fields(o.allow_zero);
    fields(o.score_aware_centroids);
    fields(o.soar_lambda);
    transfer_enum(fields, o.refine_type, RefineType::BF16);
    fields(o.with_raw_data);
    fields(o.seed);
    fields(o.max_points_per_centroid);
    fields(o.kmeans_rounds);
}

template <class Fields, class Layout>
void transfer_layout(Fields& fields, Layout& layout) {
    fields(layout.d);
    fields(layout.M);
    fields(layout.has_term);
    transfer_enum(fields, layout.refine_type, RefineType::BF16);
    fields(layout.with_raw_data);
    fields(layout.raw_norm);
    fields(layout.has_primary);
}

constexpr const char* kNotThere = "an entry is not where it says";

/// A map left half filled by an exception would be refused when read.
faiss::DirectMap::Type saved_map_type(const IndexIVFScaNN& index) {
    return index.direct_map_fits() ? index.direct_map.type
                                   : faiss::DirectMap::NoMap;
}

bool is_share(float value) {
    return value >= 0 && value <= 1; // not NaN
}

template <class T>
void read_column(SectionReader& reader, size_t n, AlignedBuffer<T>& column) {
    if (reader.is_mapped()) {
        auto data = reinterpret_cast<const T*>(reader.borrow(n * sizeof(T)));
        if (n > 0) {
            column = AlignedBuffer<T>::borrow(data, n);
        }
        return;
    }
    // Of a stream nobody knows the length: grow with what really comes.
    constexpr size_t kStep = (64 << 20) / sizeof(T);
    for (size_t at = 0; at < n;) {
        size_t count = std::min(n - at, std::max(kStep, at));
        column.reserve_exactly(at + count);
        column.resize(at + count);
        reader.read(column.mutable_data() + at, count * sizeof(T));
        at += count;
    }
}

} // namespace

IndexHeader header_of(const IndexIVFScaNN& index) {
    IndexHeader h;
    h.d = index.d;
    h.nlist = index.nlist;
    h.ntotal = index.ntotal;
    h.metric = index.metric_type == faiss::METRIC_INNER_PRODUCT ? 0 : 1;
    h.is_trained = index.is_trained;
    h.verbose = index.verbose;
    h.quantizer_trains_alone = index.quantizer_trains_alone;
    h.direct_map_type = saved_map_type(index);
    h.parallel_mode = index.parallel_mode;
    h.nprobe = index.nprobe;
    h.max_codes = index.max_codes;
    h.reorder_k = index.reorder_k;
    h.refine_k = index.refine_k;
    h.calibration = index.calibration;
    h.options = index.options;
    return h;
}

void put_header(SectionSink& sink, const IndexHeader& header) {
    FieldWriter fields{sink};
    transfer_header(fields, header);
}

IndexHeader get_header(ByteReader reader) {
    IndexHeader h;
    FieldReader fields{reader};
    transfer_header(fields, h);
    reader.finish();
    reader.check(h.d >= 1 && h.d <= 65536, "dimension out of range");
    // list numbers are 32 bits in direct maps and spilled copies
    reader.check(h.nlist < (uint64_t(1) << 32), "too many lists");
    reader.check(h.nlist > 0 || !h.is_trained, "no lists");
    reader.check(h.ntotal >= 0, "negative number of vectors");
    reader.check(h.metric <= 1, "unknown metric");
    reader.check(h.quantizer_trains_alone <= 2, "unknown kind of training");
    reader.check(h.direct_map_type <= 2, "unknown kind of direct map");
    reader.check(h.is_trained || h.ntotal == 0, "untrained, but with vectors");
    const ScaNNCalibration& c = h.calibration;
    reader.check(
            is_share(c.target_recall) && is_share(c.recall),
            "a recall is not between 0 and 1");
    reader.check(
            c.k > 0 || (c.nprobe == 0 && c.refine_k == 0 && c.reorder_k == 0),
            "calibrated for k = 0");
    return h;
}

void apply_header(const IndexHeader& header, IndexIVFScaNN& index) {
    index.ntotal = header.ntotal;
    index.verbose = header.verbose;
    index.quantizer_trains_alone = header.quantizer_trains_alone;
    index.parallel_mode = header.parallel_mode;
    index.nprobe = header.nprobe;
    index.max_codes = header.max_codes;
    index.reorder_k = header.reorder_k;
    index.refine_k = header.refine_k;
    index.calibration = header.calibration;
}

void put_direct_map(SectionSink& sink, const IndexIVFScaNN& index) {
    const faiss::DirectMap& map = index.direct_map;
    switch (saved_map_type(index)) {
        case faiss::DirectMap::NoMap:
            sink.put_value(uint64_t(0));
            break;
        case faiss::DirectMap::Array:
            sink.put_value(uint64_t(map.array.size()));
            sink.put(map.array.data(), map.array.size() * sizeof(int64_t));
            break;
        case faiss::DirectMap::Hashtable:
            sink.put_value(uint64_t(map.hashtable.size()));
            for (const auto& [id, lo] : map.hashtable) {
                sink.put_value(id);
                sink.put_value(lo);
            }
            break;
    }
}

namespace {

void check_array(
        const ByteReader& reader,
        const std::vector<int64_t>& array,
        const ScaNNLists& lists) {
    // In the order of the lists, whose ids may be in no cache: an entry is
    // right if the row that it names has its id.
    size_t right = 0;
    for (size_t l = 0; l < lists.nlist; l++) {
        const auto& ids = lists.list(l).ids;
        for (size_t i = 0; i < ids.size(); i++) {
            const uint64_t id = uint64_t(ids[i]);
            right += id < array.size() &&
                     array[id] == int64_t(faiss::lo_build(l, i));
        }
    }
    // -1: counted, but in no list
    const size_t none = std::count(array.begin(), array.end(), -1);
    reader.check(right + none == array.size(), kNotThere);
}

void get_hashtable(
        ByteReader& reader,
        uint64_t n,
        const ScaNNLists& lists,
        std::unordered_map<int64_t, int64_t>& table) {
    struct Entry {
        int64_t id;
        int64_t place;
    };
    const std::vector<Entry> entries = reader.get_vector<Entry>(n);
    table.reserve(n);
    // Ids chosen to fall into one bucket would take for ever to tell apart.
    constexpr size_t kMostAlike = 1000;
    std::vector<uint16_t> alike(table.bucket_count());
    for (const Entry& entry : entries) {
        uint16_t& count = alike[table.bucket(entry.id)];
        reader.check(++count <= kMostAlike, "ids that no table tells apart");
    }
    for (const auto& [id, place] : entries) {
        if (place == -1) {
            continue;
        }
        // whose row that is, is asked where it is used (row_of_id())
        reader.check(place >= 0 && is_place(place, lists), kNotThere);
        reader.check(table.emplace(id, place).second, "an id is there twice");
    }
}

} // namespace

void get_direct_map(
        ByteReader reader,
        faiss::DirectMap::Type type,
        uint64_t ntotal,
        const ScaNNLists& lists,
        faiss::DirectMap& map) {
    uint64_t n;
    reader.get_value(n);
    faiss::DirectMap fresh;
    fresh.type = type;
    switch (type) {
        case faiss::DirectMap::NoMap:
            reader.check(n == 0, "entries without a map");
            break;
        case faiss::DirectMap::Array:
            reader.check(
                    n == ntotal, "an Array of another size than the index");
            fresh.array = reader.get_vector<int64_t>(n);
            check_array(reader, fresh.array, lists);
            break;
        case faiss::DirectMap::Hashtable:
            get_hashtable(reader, n, lists, fresh.hashtable);
            break;
    }
    reader.finish();
    map = std::move(fresh);
}

namespace {

std::vector<faiss::IndexIDMap*> id_maps_of(faiss::Index& root) {
    std::vector<faiss::IndexIDMap*> maps;
    faiss::Index* at = &root;
    while (faiss::Index** below = wrapped_index(at)) {
        if (auto map = dynamic_cast<faiss::IndexIDMap*>(at)) {
            maps.push_back(map);
        }
        at = *below;
    }
    return maps;
}

} // namespace

void put_id_maps(SectionSink& sink, const faiss::Index& root) {
    auto maps = id_maps_of(const_cast<faiss::Index&>(root)); // only read
    sink.put_value(uint64_t(maps.size()));
    for (const faiss::IndexIDMap* map : maps) {
        sink.put_value(uint64_t(map->id_map.size()));
        sink.put(map->id_map.data(), map->id_map.size() * sizeof(int64_t));
    }
}

void get_id_maps(ByteReader reader, uint64_t ntotal, faiss::Index& root) {
    auto maps = id_maps_of(root);
    uint64_t count;
    reader.get_value(count);
    reader.check(count == maps.size(), "not one table for each IndexIDMap");
    for (faiss::IndexIDMap* map : maps) {
        uint64_t n;
        reader.get_value(n);
        reader.check(n == ntotal, "not one id for each vector");
        map->id_map = reader.get_vector<int64_t>(n);
        map->ntotal = int64_t(n);
        if (auto map2 = dynamic_cast<faiss::IndexIDMap2*>(map)) {
            map2->construct_rev_map();
        }
    }
    reader.finish();
}

void put_rotation(SectionSink& sink, const Rotation& rotation) {
    const std::vector<float>& matrix = rotation.matrix();
    sink.put_value(uint64_t(matrix.size()));
    sink.put(matrix.data(), matrix.size() * sizeof(float));
}

Rotation get_rotation(ByteReader reader, size_t d) {
    uint64_t n;
    reader.get_value(n);
    reader.check(n == 0 || n == d * d, "not a matrix of d x d");
    std::vector<float> matrix = reader.get_vector<float>(n);
    reader.finish();
    // Its rows have length 1: nothing that a query or a row is becomes larger.
    for (size_t i = 0; i < n; i += d) {
        const double square = precise_square(d, &matrix[i]);
        reader.check(
                square > 0.99 && square < 1.01, "an axis has not length 1");
    }
    Rotation rotation;
    rotation.set_matrix(d, std::move(matrix));
    return rotation;
}

// The order of the lines of transfer_ functions is the file format.
template <class Fields, class Term>
static void transfer_term(Fields& fields, Term& term) {
    fields(term.centroid_weight);
    fields(term.residual_weight);
    fields(term.error_weight);
    float unused = 1; // a typical length, in what was written before version 2
    fields(unused);
    fields(term.minimum);
    fields(term.step);
}

void put_codebook(SectionSink& sink, const ScaNNModel& trained) {
    const ScoreAwarePQ& pq = trained.pq;
    sink.put_value(uint64_t(pq.M()));
    sink.put(pq.offsets().data(), pq.offsets().size() * sizeof(uint32_t));
    sink.put_value(pq.eta());
    sink.put(pq.codebook().data(), pq.codebook().size() * sizeof(float));
    FieldWriter fields{sink};
    transfer_term(fields, trained.score_term);
    const std::vector<float>& spread = trained.list_spread;
    sink.put(spread.data(), spread.size() * sizeof(float));
}

void get_codebook(
        ByteReader reader,
        size_t d,
        size_t M,
        size_t nlist,
        ScaNNModel& trained) {
    uint64_t stored_M;
    reader.get_value(stored_M);
    reader.check(stored_M == M, "number of codes does not fit the options");
    std::vector<uint32_t> offsets = reader.get_vector<uint32_t>(M + 1);
    reader.check(offsets[0] == 0 && offsets[M] == d, "wrong block boundaries");
    for (size_t m = 0; m < M; m++) {
        reader.check(
                offsets[m] < offsets[m + 1] && offsets[m + 1] - offsets[m] <= 8,
                "wrong block boundaries");
    }
    float eta;
    reader.get_value(eta);
    reader.check(std::isfinite(eta) && eta >= 1, "eta out of range");
    std::vector<float> codebook = reader.get_vector<float>(d * 16);
    reader.check(
            all_finite(codebook.size(), codebook.data()),
            "a codeword has a NaN or infinite value");
    ScoreTerm& term = trained.score_term;
    FieldReader fields{reader};
    transfer_term(fields, term);
    for (float value :
         {term.centroid_weight,
          term.residual_weight,
          term.error_weight,
          term.minimum}) {
        reader.check(std::isfinite(value), "a term's weight is not finite");
    }
    reader.check(
            std::isfinite(term.step) && term.step >= 0,
            "a term's scale is out of range");
    trained.list_spread = reader.get_vector<float>(nlist);
    for (float spread : trained.list_spread) {
        reader.check(
                std::isfinite(spread) && spread >= 0,
                "the spread of a list is out of range");
    }
    reader.finish();
    trained.pq = ScoreAwarePQ(std::move(offsets));
    trained.pq.set_codebook(codebook.data(), eta);
}

// The order of the lines of transfer_ functions is the file format.
template <class Fields, class Trained>
static void transfer_ranges(Fields& fields, Trained& trained) {
    fields(trained.score_term.error_limit);
    fields(trained.by_direction);
    fields(trained.scan_rows);
    fields(trained.trial_recall);
}

void put_ranges(SectionSink& sink, const ScaNNModel& trained) {
    sink.put_value(uint64_t(trained.origin.size()));
    sink.put(trained.origin.data(), trained.origin.size() * sizeof(float));
    FieldWriter fields{sink};
    transfer_ranges(fields, trained);
}

void get_ranges(ByteReader reader, size_t d, ScaNNModel& trained) {
    const bool l2 = trained.score_term.metric == faiss::METRIC_L2;
    uint64_t n;
    reader.get_value(n);
    reader.check(n == 0 || (l2 && n == d), "not an origin of d values");
    trained.origin = reader.get_vector<float>(n);
    reader.check(
            all_finite(n, trained.origin.data()), "the origin is not finite");
    FieldReader fields{reader};
    transfer_ranges(fields, trained);
    reader.check(
            trained.score_term.error_limit >= 0, "a limit is out of range");
    reader.check(is_share(trained.trial_recall), "a recall is out of range");
    reader.check(
            !(l2 && trained.by_direction),
            "lists by direction, but not for L2");
    reader.finish();
}

void put_apart(SectionSink& sink, const ScaNNLists& lists) {
    for (size_t l = 0; l < lists.nlist; l++) {
        const std::vector<uint32_t>& apart = lists.list(l).apart;
        sink.put_value(uint32_t(apart.size()));
        sink.put(apart.data(), apart.size() * sizeof(apart[0]));
    }
}

void get_apart(ByteReader reader, ScaNNLists& lists) {
    for (size_t l = 0; l < lists.nlist; l++) {
        ScaNNList& list = lists.mutable_list(l);
        uint32_t n;
        reader.get_value(n);
        list.apart = reader.get_vector<uint32_t>(n);
        for (size_t i = 0; i < n; i++) {
            reader.check(
                    list.apart[i] < list.size() &&
                            (i == 0 || list.apart[i] > list.apart[i - 1]),
                    "an entry that is not in its list, or twice");
        }
    }
    reader.finish();
}

void put_list_table(SectionSink& sink, const ScaNNLists& lists) {
    FieldWriter fields{sink};
    transfer_layout(fields, lists.layout());
    sink.put_value(uint64_t(lists.nlist));
    for (size_t l = 0; l < lists.nlist; l++) {
        sink.put_value(uint64_t(lists.list(l).size()));
    }
}

std::vector<uint64_t> get_list_table(
        ByteReader reader,
        size_t nlist,
        const EntryLayout& layout,
        uint64_t largest) {
    EntryLayout stored;
    FieldReader fields{reader};
    transfer_layout(fields, stored);
    reader.check(stored == layout, "entries do not fit the options");
    uint64_t n;
    reader.get_value(n);
    reader.check(n == nlist, "number of lists does not fit the index");
    std::vector<uint64_t> sizes = reader.get_vector<uint64_t>(n);
    for (uint64_t size : sizes) {
        reader.check(size <= largest, "more vectors than the index has");
        largest -= size;
        // offsets are 32 bits in direct maps and spilled copies
        reader.check(size < (uint64_t(1) << 32), "a list is too long");
    }
    reader.finish();
    return sizes;
}

void add_column_sections(
        const ScaNNLists& lists,
        const std::string& prefix,
        std::vector<Section>& sections) {
    visit_columns(lists.layout(), [&](const char* name, auto column, auto) {
        sections.push_back({prefix + name, [&lists, column](SectionSink& sink) {
                                for (size_t l = 0; l < lists.nlist; l++) {
                                    const auto& buffer = lists.list(l).*column;
                                    sink.put(
                                            buffer.data(),
                                            buffer.size() * sizeof(buffer[0]));
                                    sink.align();
                                }
                            }});
    });
}

std::unique_ptr<ScaNNLists> read_columns(
        const EntryLayout& layout,
        const std::vector<uint64_t>& sizes,
        const std::string& prefix,
        SectionReader& reader) {
    size_t ahead = 0;
    auto check_size = [&](const char* name, auto column, auto elements) {
        uint64_t section_size = reader.size_ahead(ahead++, prefix + name);
        uint64_t total = 0;
        for (uint64_t n : sizes) {
            using T = std::decay_t<decltype((ScaNNList().*column)[0])>;
            total += round_up(elements(n) * sizeof(T), kAlignment);
            // each list has less than 2^52 bytes: no overflow before this
            if (total > section_size) {
                break;
            }
        }
        if (total != section_size) {
            reader.fail("its size does not fit the sizes of the lists");
        }
    };
    // before memory is taken for any
    visit_columns(layout, check_size);
    auto lists = std::make_unique<ScaNNLists>(sizes.size(), layout);
    if (!reader.is_mapped()) {
        try {
            // Of a stream of unknown length only addresses: what does not come
            // is not touched.
            lists->reserve({sizes.begin(), sizes.end()});
        } catch (const std::bad_alloc&) {
            // sizes of a damaged file: what really comes will show it
        }
    }
    auto read = [&](const char* name, auto column, auto elements) {
        reader.enter(prefix + name);
        for (size_t l = 0; l < sizes.size(); l++) {
            read_column(
                    reader, elements(sizes[l]), lists->mutable_list(l).*column);
            reader.align();
        }
        reader.leave();
    };
    visit_columns(layout, read);
    return lists;
}

void check_primary(const ScaNNLists& spilled, const ScaNNLists& lists) {
    std::vector<size_t> first(lists.nlist + 1); // entry of each list
    for (size_t l = 0; l < lists.nlist; l++) {
        first[l + 1] = first[l] + lists.list(l).size();
    }
    std::vector<bool> has_copy(first.back());
    for (size_t l = 0; l < spilled.nlist; l++) {
        const ScaNNList& list = spilled.list(l);
        for (size_t i = 0; i < list.size(); i++) {
            const uint64_t place = list.primary[i];
            FAISS_THROW_IF_NOT_FMT(
                    is_place(place, lists),
                    "cannot read the index: section 'spilled_primary': copy "
                    "%zu of list %zu is of an entry that is in no list",
                    i,
                    l);
            auto has =
                    has_copy.begin() + ptrdiff_t(
                                               first[faiss::lo_listno(place)] +
                                               faiss::lo_offset(place));
            FAISS_THROW_IF_NOT_FMT(
                    !*has,
                    "cannot read the index: section 'spilled_primary': copy "
                    "%zu of list %zu is the second of its entry",
                    i,
                    l);
            *has = true;
        }
    }
}

} // namespace faiss_ext
