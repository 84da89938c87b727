#include <faiss_ext/index_io.h>

#include <functional>
#include <numeric>

#include <faiss/IndexFlat.h>
#include <faiss/IndexIDMap.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/set_model.h>
#include <faiss_ext/index_factory.h>
#include <faiss_ext/io/column_tiers.h>
#include <faiss_ext/io/direct_map_section.h>
#include <faiss_ext/io/export_faiss.h>
#include <faiss_ext/io/faiss_bytes.h>
#include <faiss_ext/io/faiss_sections.h>
#include <faiss_ext/io/file_sections.h>
#include <faiss_ext/io/index_header.h>
#include <faiss_ext/io/list_sections.h>
#include <faiss_ext/io/model_sections.h>
#include <faiss_ext/io/profile_section.h>
#include <faiss_ext/io/regular_files.h>
#include <faiss_ext/lists/on_demand_rows.h>
#include <faiss_ext/memory/file_fault.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/wrappers/clone.h>
#include <faiss_ext/wrappers/faiss_training.h>
#include <faiss_ext/wrappers/id_map_section.h>

namespace faiss_ext {

namespace {

const IndexIVFScaNN& scann_of(const faiss::Index* index) {
    const IndexIVFScaNN* scann = find_scann(index);
    FAISS_THROW_IF_NOT_MSG(
            scann != nullptr,
            "there is no ScaNN index inside IndexIDMap or IndexPreTransform "
            "here; faiss::write_index saves Faiss' own indexes");
    return *scann;
}

/** Rows that are counted but in no list (add_core() with list -1) take no bytes in
 * a file. Their number is limited, to kFewRows or that of the other rows, so
 * that a damaged file cannot make later calls allocate for many rows. */
void check_rows(int64_t ntotal, uint64_t stored, const char* what) {
    constexpr uint64_t kFewRows = uint64_t(1) << 20;
    FAISS_THROW_IF_NOT_FMT(
            uint64_t(ntotal) - stored <= std::max(stored, kFewRows),
            "%s: ntotal = %lld counts rows that are in no list; only %zu are",
            what,
            static_cast<long long>(ntotal),
            size_t(stored));
}

/// Bytes left in a reader, or 0 if it is of a kind that does not know.
uint64_t bytes_left(faiss::IOReader& reader) {
    if (auto bytes = dynamic_cast<faiss::VectorIOReader*>(&reader)) {
        return bytes->data.size() - bytes->rp;
    }
    return 0;
}

// ---- write ----

IndexHeader header_of(const IndexIVFScaNN& index) {
    IndexHeader h;
    h.d = index.d;
    h.nlist = index.nlist;
    h.ntotal = index.ntotal;
    h.changed = index.state().fit.changed;
    h.metric = index.metric_type == faiss::METRIC_INNER_PRODUCT ? 0 : 1;
    h.is_trained = index.is_trained;
    h.verbose = index.verbose;
    h.quantizer_trains_alone = index.quantizer_trains_alone;
    h.direct_map_type = saved_map_type(index.state());
    h.parallel_mode = index.parallel_mode;
    h.nprobe = index.nprobe;
    h.max_codes = index.max_codes;
    h.reorder_k = index.reorder_k;
    h.refine_k = index.refine_k;
    h.calibration = index.calibration;
    h.options = index.options;
    return h;
}

void write_tree(const faiss::Index* root, faiss::IOWriter* writer) {
    const IndexIVFScaNN& index = scann_of(root);
    const IndexState& state = index.state();
    check_rows(
            index.ntotal,
            state.lists->compute_ntotal(),
            "cannot write the index");
    // a copy, since `root` is const, and other threads may be searching it
    std::unique_ptr<faiss::Index> wrappers = copy_wrappers(
            root,
            std::make_unique<faiss::IndexFlat>(index.d, index.metric_type),
            false);
    const IndexHeader header = header_of(index);
    const std::vector<uint8_t> tree = tree_bytes(*wrappers, header);
    wrappers.reset();
    const std::vector<uint8_t> quantizer =
            quantizer_bytes(*index.quantizer, header);

    auto put_bytes = [](const std::vector<uint8_t>& bytes) {
        return [&bytes](SectionSink& sink) {
            sink.put(bytes.data(), bytes.size());
        };
    };
    auto put = [](auto function, const auto& argument) {
        return [function, &argument](SectionSink& sink) {
            function(sink, argument);
        };
    };
    const ScaNNProfile none;
    const ScaNNProfile& profile = index.profile ? *index.profile : none;
    std::vector<Section> sections = {
            {"index", put(put_header, header)},
            {"tree", put_bytes(tree)},
            {"id_maps", put(put_id_maps, *root)},
            {"quantizer", put_bytes(quantizer)},
            {"direct_map", put(put_direct_map, state)}};
    if (index.is_trained) {
        sections.push_back({"rotation", put(put_rotation, state.model)});
        sections.push_back({"codebook", put(put_codebook, state.model)});
        sections.push_back({"ranges", put(put_ranges, state.model)});
        sections.push_back({"groups", put(put_groups, state.model)});
        sections.push_back({"fit", put(put_fit, state.fit)});
        sections.push_back({"profile", put(put_profile, profile)});
        add_list_sections(*state.lists, state.spilled.get(), sections);
    }
    write_sections(sections, writer);
}

// ---- read ----

std::unique_ptr<faiss::Index> read_wrappers(
        SectionReader& reader,
        const IndexHeader& header) {
    ByteReader section = reader.read_all("tree");
    std::unique_ptr<faiss::Index> tree = get_tree(section, header);
    make_silent(tree); // as the factory made it
    get_id_maps(reader.read_all("id_maps"), header.ntotal, *tree);
    faiss::Index* leaf = tree.get();
    while (faiss::Index** below = wrapped_index(leaf)) {
        if (dynamic_cast<faiss::IndexIDMap*>(leaf) == nullptr) {
            leaf->ntotal = int64_t(header.ntotal);
        }
        leaf = *below;
    }
    section.check(
            size_t(leaf->d) == header.d,
            "the place of the ScaNN index has another dimension");
    return tree;
}

/// An untrained index. Impossible options throw as errors of the section.
std::unique_ptr<IndexIVFScaNN> new_index(
        std::unique_ptr<faiss::Index> quantizer,
        const IndexHeader& header) {
    std::unique_ptr<IndexIVFScaNN> index;
    try {
        index = std::make_unique<IndexIVFScaNN>(
                quantizer.get(),
                header.d,
                header.nlist,
                metric_of(header),
                header.options);
    } catch (const faiss::FaissException& error) {
        ByteReader("index", {}).fail(error.msg);
    }
    quantizer.release();
    index->own_fields = true;
    return index;
}

/// Where the columns of the lists come from.
struct ColumnSources {
    /// keeps alive what the reader maps; nullptr with a stream
    std::shared_ptr<const void> mapping;
    ColumnNames in_memory; ///< though the reader maps them
    /// of rows of so many bytes, read by searches; empty: they are in memory, or
    /// mapped
    std::function<std::shared_ptr<const OnDemandRows>(size_t row_bytes)> rows;

    std::unique_ptr<ScaNNLists> read(
            const ScaNNLists& empty,
            const std::vector<uint64_t>& sizes,
            const std::string& prefix,
            SectionReader& reader) const {
        auto lists = read_columns(
                empty.layout(),
                sizes,
                prefix,
                [&](const char* name) {
                    return in_memory.count(prefix + name) > 0;
                },
                reader);
        lists->keep_alive(mapping);
        if (rows && lists->layout().with_raw_data) {
            lists->read_rows_on_demand(rows(lists->layout().raw_row_bytes()));
        }
        return lists;
    }
};

ListSets read_lists(
        SectionReader& reader,
        const ColumnSources& sources,
        const IndexHeader& header,
        const IndexState& state) {
    auto read_table = [&](const std::string& prefix, const ScaNNLists& empty) {
        return get_list_table(
                reader.read_all(prefix + "lists"),
                header.nlist,
                empty.layout(),
                uint64_t(header.ntotal),
                reader.version());
    };
    const ScaNNLists* empty = state.spilled.get();
    auto sizes = read_table("", *state.lists);
    check_rows(
            header.ntotal,
            std::accumulate(sizes.begin(), sizes.end(), uint64_t(0)),
            "cannot read the index: section 'index'");
    std::vector<uint64_t> spilled_sizes;
    if (empty != nullptr) {
        spilled_sizes = read_table(kOfCopies, *empty);
    }
    ListSets sets;
    sets.lists = sources.read(*state.lists, sizes, "", reader);
    if (empty != nullptr) {
        sets.spilled = sources.read(*empty, spilled_sizes, kOfCopies, reader);
    }
    if (reader.version() >= 2) {
        auto read_apart = [&](const std::string& prefix, ScaNNLists& lists) {
            get_apart(reader.read_all(prefix + "apart"), lists);
        };
        read_apart("", *sets.lists);
        if (sets.spilled != nullptr) {
            read_apart(kOfCopies, *sets.spilled);
        }
    }
    if (sets.spilled != nullptr &&
        (!reader.is_mapped() || reader.verifies_borrowed())) {
        check_primary(*sets.spilled, *sets.lists);
    }
    return sets;
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

faiss::Index* read_tree(SectionReader& reader, const ColumnSources& sources) {
    IndexHeader header = get_header(reader.read_all("index"), reader.version());
    std::unique_ptr<faiss::Index> root = read_wrappers(reader, header);
    std::unique_ptr<faiss::Index> quantizer =
            get_quantizer(reader.read_all("quantizer"), header);
    std::unique_ptr<IndexIVFScaNN> index =
            new_index(std::move(quantizer), header);
    ByteReader direct_map = reader.read_all("direct_map");
    if (header.is_trained) {
        const IndexState& state = index->state();
        ScaNNModel model;
        ModelFit fit;
        get_rotation(reader.read_all("rotation"), header.d, model);
        model.score_term.metric = index->metric_type;
        get_codebook(
                reader.read_all("codebook"),
                header.d,
                state.lists->layout().M,
                header.nlist,
                model);
        if (reader.version() >= 2) {
            get_ranges(reader.read_all("ranges"), header.d, model);
        }
        if (reader.version() >= 3) {
            get_groups(reader.read_all("groups"), header.nlist, model);
        }
        if (reader.version() >= 5) {
            get_fit(reader.read_all("fit"), fit);
            fit.changed = header.changed;
            ScaNNProfile profile =
                    get_profile(reader.read_all("profile"), header.nlist);
            if (profile.rows > 0) {
                index->profile = std::make_shared<const ScaNNProfile>(
                        std::move(profile));
            }
        }
        ListSets sets = read_lists(reader, sources, header, state);
        // also if mapped: a direct map was read as well
        check_mapped_ids(*root, *sets.lists, sets.spilled.get());
        set_model(*index, std::move(model), std::move(sets));
        index->state().fit = fit;
    }
    reader.finish();
    get_direct_map(
            std::move(direct_map),
            faiss::DirectMap::Type(header.direct_map_type),
            uint64_t(header.ntotal),
            *index->state().lists,
            index->direct_map);
    apply_header(header, *index);
    replace_leaf(root, std::move(index));
    return root.release();
}

faiss::Index* read_in_place(
        const std::shared_ptr<const uint8_t>& memory,
        uint64_t size,
        bool verify) {
    SectionReader reader(memory.get(), size, verify);
    return read_tree(reader, {memory, {}, nullptr});
}

faiss::Index* read_mapped(const std::string& path, bool verify) {
    InputFile file(path);
    return read_in_place(file.map(), file.size(), verify);
}

faiss::Index* read_within(const std::string& path, const ReadBounds& bounds) {
    InputFile file(path);
    const std::shared_ptr<const uint8_t> mapping = file.map();
    SectionReader reader(mapping.get(), file.size(), false);
    const ColumnPlan plan = plan_columns(reader, bounds);
    ColumnSources sources{mapping, plan.in_memory, {}};
    if (plan.rows_on_demand) {
        sources.rows = [&](size_t row_bytes) {
            return std::make_shared<OnDemandRows>(
                    fileno(file.stream()),
                    path,
                    mapping,
                    file.size(),
                    row_bytes,
                    plan.row_cache);
        };
    }
    std::unique_ptr<faiss::Index> index(read_tree(reader, sources));
    file.forget_pages(mapping);
    return index.release();
}

faiss::Index* read_copied(const std::string& path) {
    InputFile file(path);
    faiss::FileIOReader stream(file.stream());
    stream.name = path;
    SectionReader reader(&stream, file.size(), true);
    return read_tree(reader, {});
}

} // namespace

void write_index(const faiss::Index* index, faiss::IOWriter* writer) {
    write_tree(index, writer);
    // flushing stdio's buffer may still fail, which its destructor only prints
    if (auto file = dynamic_cast<faiss::FileIOWriter*>(writer)) {
        if (fflush(file->f) != 0) {
            fail_with_errno("cannot write the index to", writer->name);
        }
    }
}

void write_index(const faiss::Index* index, const std::string& path) {
    scann_of(index);
    OutputFile file(path);
    write_tree(index, &file);
    file.become_target();
}

faiss::Index* read_index(const std::string& path, ReadMode mode) {
    switch (mode) {
        case ReadMode::Copy:
            return read_copied(path);
        case ReadMode::Mmap:
            return read_mapped(path, false);
        case ReadMode::MmapVerified:
            return read_mapped(path, true);
    }
    FAISS_THROW_FMT("unknown ReadMode %d", int(mode));
}

faiss::Index* read_index(const std::string& path, const ReadBounds& bounds) {
    return read_within(path, bounds);
}

std::vector<ColumnBytes> column_bytes(const faiss::Index* index) {
    const IndexIVFScaNN* scann = find_scann(index);
    FAISS_THROW_IF_NOT_MSG(
            scann != nullptr, "there is no ScaNN index inside, and no columns");
    return scann->is_trained ? column_bytes(scann->state())
                             : std::vector<ColumnBytes>();
}

std::vector<ColumnBytes> column_bytes(
        const std::string& path,
        const ReadBounds& bounds) {
    InputFile file(path);
    const std::shared_ptr<const uint8_t> mapping = file.map();
    const SectionReader reader(mapping.get(), file.size(), false);
    return column_bytes(reader, plan_columns(reader, bounds));
}

faiss::Index* read_index(faiss::IOReader* reader, uint64_t size) {
    SectionReader sections(
            reader, size != 0 ? size : bytes_left(*reader), false);
    return read_tree(sections, {});
}

faiss::Index* read_index(
        const std::shared_ptr<const uint8_t>& bytes,
        uint64_t size,
        ReadMode mode) {
    constexpr size_t kAlignment = 64; // of the sections
    FAISS_THROW_IF_NOT_MSG(
            bytes != nullptr && size > 0,
            "no bytes (allowed: those of a file)");
    if (mode == ReadMode::Copy) {
        SpanReader stream({bytes.get(), size_t(size)});
        SectionReader reader(&stream, size, true);
        return read_tree(reader, {});
    }
    FAISS_THROW_IF_NOT_FMT(
            mode == ReadMode::Mmap || mode == ReadMode::MmapVerified,
            "unknown ReadMode %d",
            int(mode));
    FAISS_THROW_IF_NOT_FMT(
            uintptr_t(bytes.get()) % kAlignment == 0,
            "bytes at %p (allowed: multiples of %zu)",
            static_cast<const void*>(bytes.get()),
            kAlignment);
    return read_in_place(bytes, size, mode == ReadMode::MmapVerified);
}

faiss::Index* export_to_faiss(const faiss::Index* index) {
    const IndexIVFScaNN* scann = find_scann(index);
    FAISS_THROW_IF_NOT_MSG(
            scann != nullptr, "cannot export: there is no ScaNN index inside");
    return copy_wrappers(index, export_index(scann->state()), true).release();
}

} // namespace faiss_ext
