#include <faiss_ext/io/list_sections.h>

#include <algorithm>
#include <new>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/io/section_fields.h>
#include <faiss_ext/lists/direct_map.h>
#include <faiss_ext/partition/panels.h>

namespace faiss_ext {

namespace {

// The order of these lines is the file format.
template <class Fields, class Layout>
void transfer_layout(Fields& fields, Layout& layout, uint32_t version) {
    fields(layout.d);
    fields(layout.M);
    fields(layout.has_term);
    transfer_enum(fields, layout.refine_type, RefineType::BF16);
    fields(layout.with_raw_data);
    fields(layout.raw_norm);
    fields(layout.has_primary);
    if (version >= 4) {
        transfer_enum(fields, layout.raw_type, RowType::UInt8);
    }
    if (version >= 5) {
        fields(layout.has_tag);
    }
}

template <class T>
void borrow_column(SectionReader& reader, size_t n, AlignedBuffer<T>& column) {
    auto data = reinterpret_cast<const T*>(reader.borrow(n * sizeof(T)));
    if (n > 0) {
        column = AlignedBuffer<T>::borrow(data, n);
    }
}

template <class T>
void copy_column(SectionReader& reader, size_t n, AlignedBuffer<T>& column) {
    // the length of a stream is unknown: memory grows with the bytes read
    constexpr size_t kStep = (64 << 20) / sizeof(T);
    for (size_t at = 0; at < n;) {
        size_t count = std::min(n - at, std::max(kStep, at));
        column.reserve_exactly(at + count);
        column.resize(at + count);
        reader.read(column.mutable_data() + at, count * sizeof(T));
        at += count;
    }
}

void put_list_table(SectionSink& sink, const ScaNNLists& lists) {
    std::vector<uint64_t> sizes(lists.nlist);
    for (size_t l = 0; l < lists.nlist; l++) {
        sizes[l] = lists.list(l).size();
    }
    put_list_sizes(sink, lists.layout(), sizes);
}

void put_apart(SectionSink& sink, const ScaNNLists& lists) {
    for (size_t l = 0; l < lists.nlist; l++) {
        const AlignedBuffer<uint32_t>& apart = lists.list(l).apart;
        sink.put_value(uint32_t(apart.size()));
        sink.put(apart.data(), apart.size() * sizeof(apart[0]));
    }
}

void add_columns(
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

} // namespace

void get_apart(ByteReader reader, ScaNNLists& lists) {
    for (size_t l = 0; l < lists.nlist; l++) {
        ScaNNList& list = lists.mutable_list(l);
        uint32_t n;
        reader.get_value(n);
        const auto offsets = reader.get_vector<uint32_t>(n);
        list.apart.resize(n);
        std::copy_n(offsets.data(), n, list.apart.mutable_data());
        for (size_t i = 0; i < n; i++) {
            reader.check(
                    list.apart[i] < list.size() &&
                            (i == 0 || list.apart[i] > list.apart[i - 1]),
                    "an entry that is not in its list, or twice");
        }
    }
    reader.finish();
}

void put_list_sizes(
        SectionSink& sink,
        const EntryLayout& layout,
        const std::vector<uint64_t>& sizes) {
    FieldWriter fields{sink};
    transfer_layout(fields, layout, kFormatVersion);
    sink.put_value(uint64_t(sizes.size()));
    sink.put(sizes.data(), sizes.size() * sizeof(sizes[0]));
}

std::vector<uint64_t> get_list_table(
        ByteReader reader,
        size_t nlist,
        const EntryLayout& layout,
        uint64_t largest,
        uint32_t version) {
    EntryLayout stored;
    FieldReader fields{reader};
    transfer_layout(fields, stored, version);
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

void add_list_sections(
        const ScaNNLists& lists,
        const ScaNNLists* spilled,
        std::vector<Section>& sections) {
    auto add_each = [&](auto&& add) {
        add(lists, "");
        if (spilled != nullptr) {
            add(*spilled, kOfCopies);
        }
    };
    auto add_with = [&](const char* name, auto put) {
        add_each([&](const ScaNNLists& of, const std::string& prefix) {
            sections.push_back({prefix + name, [&of, put](SectionSink& sink) {
                                    put(sink, of);
                                }});
        });
    };
    add_with("lists", put_list_table);
    add_each([&](const ScaNNLists& of, const std::string& prefix) {
        add_columns(of, prefix, sections);
    });
    add_with("apart", put_apart);
}

std::unique_ptr<ScaNNLists> read_columns(
        const EntryLayout& layout,
        const std::vector<uint64_t>& sizes,
        const std::string& prefix,
        const ScaNNLists::ColumnFilter& in_memory,
        SectionReader& reader) {
    const auto is_copied = [&](const char* name) {
        return !reader.is_mapped() || in_memory(name);
    };
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
    try {
        // for a stream of unknown length this reserves addresses only:
        // pages that are not read into are not used
        lists->reserve_columns({sizes.begin(), sizes.end()}, is_copied);
    } catch (const std::bad_alloc&) {
        // the file may be damaged: reading will find out
    }
    auto read = [&](const char* name, auto column, auto elements) {
        reader.enter(prefix + name);
        const bool copied = is_copied(name);
        for (size_t l = 0; l < sizes.size(); l++) {
            auto& buffer = lists->mutable_list(l).*column;
            if (copied) {
                copy_column(reader, elements(sizes[l]), buffer);
            } else {
                borrow_column(reader, elements(sizes[l]), buffer);
            }
            reader.align(!copied);
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
                    "cannot read the index: section '%sprimary': copy "
                    "%zu of list %zu is of an entry that is in no list",
                    kOfCopies,
                    i,
                    l);
            auto has =
                    has_copy.begin() + ptrdiff_t(
                                               first[faiss::lo_listno(place)] +
                                               faiss::lo_offset(place));
            FAISS_THROW_IF_NOT_FMT(
                    !*has,
                    "cannot read the index: section '%sprimary': copy "
                    "%zu of list %zu is the second of its entry",
                    kOfCopies,
                    i,
                    l);
            *has = true;
        }
    }
}

} // namespace faiss_ext
