#include <faiss_ext/io/merge_runs.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <type_traits>

#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/codes/packed_block.h>
#include <faiss_ext/faiss_compat.h>
#include <faiss_ext/io/index_header.h>
#include <faiss_ext/io/list_sections.h>
#include <faiss_ext/lists/scann_lists.h>

namespace faiss_ext {

namespace {

/// Bytes of all runs that are read at a time, of one run, and of one call.
constexpr size_t kBuffers = size_t(32) << 20;
constexpr size_t kLeastBuffer = size_t(64) << 10;
constexpr size_t kLargestBuffer = size_t(1) << 20;
constexpr size_t kCopied = size_t(256) << 10;
/// Rows whose codes are packed at a time: whole blocks.
constexpr size_t kPackedRows = 4096;
/// Bytes between two calls of progress.
constexpr uint64_t kStep = uint64_t(16) << 20;
size_t buffer_bytes(size_t runs) {
    return std::clamp(
            kBuffers / std::max<size_t>(runs, 1), kLeastBuffer, kLargestBuffer);
}

/// The sections before those of the lists, with the number of rows put in.
class ModelSections {
 public:
    ModelSections(const std::string& path, uint64_t rows) {
        InputFile file(path);
        faiss::FileIOReader stream(file.stream());
        SectionReader reader(&stream, file.size(), true);
        FAISS_THROW_IF_NOT(reader.version() == kFormatVersion);
        header_ = get_header(reader.read_all("index"), reader.version());
        header_.ntotal = int64_t(rows);
        header_.changed = rows; // of an index that was trained, and filled
        for (std::string name = reader.next_name(); name != "lists";
             name = reader.next_name()) {
            rest_.push_back({name, reader.read_all(name).take()});
        }
    }
    void add_to(std::vector<Section>& sections) const {
        sections.push_back({"index", [this](SectionSink& to) {
                                put_header(to, header_);
                            }});
        for (const Copied& section : rest_) {
            sections.push_back({section.name, [&section](SectionSink& to) {
                                    to.put(section.bytes.data(),
                                           section.bytes.size());
                                }});
        }
    }

 private:
    struct Copied {
        std::string name;
        std::vector<uint8_t> bytes;
    };

    IndexHeader header_;
    std::vector<Copied> rest_;
};

/// How many rows of each list come before each run.
class ListStarts {
 public:
    explicit ListStarts(size_t nlist) : starts_(1) {
        starts_[0].resize(nlist);
    }
    /// @throws faiss::FaissException if a list becomes too long
    void add(const std::vector<uint64_t>& sizes) {
        std::vector<uint32_t> next(starts_.back());
        for (size_t l = 0; l < next.size(); l++) {
            const uint64_t end = next[l] + sizes[l];
            FAISS_THROW_IF_NOT_FMT(
                    end <= UINT32_MAX,
                    "list %zu would have %llu rows (allowed: < 2^32); use more "
                    "lists",
                    l,
                    static_cast<unsigned long long>(end));
            next[l] = uint32_t(end);
        }
        starts_.push_back(std::move(next));
    }
    size_t start(size_t run, size_t list) const {
        return starts_[run][list];
    }
    size_t rows(size_t run, size_t list) const {
        return starts_[run + 1][list] - starts_[run][list];
    }
    std::vector<uint64_t> totals() const {
        return {starts_.back().begin(), starts_.back().end()};
    }

 private:
    std::vector<std::vector<uint32_t>> starts_; ///< of each run, and the end
};

/// The rows of a list from all runs, packed anew.
class CodePacker {
 public:
    explicit CodePacker(const PackedLayout& layout)
            : layout_(layout),
              codes_(2 * kPackedRows * layout.M),
              terms_(2 * kPackedRows),
              packed_(layout.list_bytes(kPackedRows)) {}

    /// Takes the next n rows of the list, as packed in a list of their own.
    template <class Read>
    void add(size_t n, Read&& read, SectionSink& sink) {
        while (n > 0) {
            const size_t count = std::min(n, kPackedRows);
            read(packed_.data(), layout_.list_bytes(count));
            unpack_codes(
                    layout_,
                    packed_.data(),
                    count,
                    0,
                    count,
                    &codes_[held_ * layout_.M],
                    &terms_[held_]);
            held_ += count;
            n -= count;
            if (held_ >= kPackedRows) {
                put(kPackedRows, sink);
            }
        }
    }
    void end_list(SectionSink& sink) {
        put(held_, sink);
    }

 private:
    void put(size_t n, SectionSink& sink) {
        const size_t bytes = layout_.list_bytes(n);
        std::fill_n(packed_.begin(), bytes, uint8_t(0));
        pack_codes(
                layout_, packed_.data(), n, 0, n, codes_.data(), terms_.data());
        sink.put(packed_.data(), bytes);
        held_ -= n;
        std::copy_n(&codes_[n * layout_.M], held_ * layout_.M, codes_.data());
        std::copy_n(&terms_[n], held_, terms_.data());
    }

    PackedLayout layout_;
    std::vector<uint8_t> codes_; ///< of held_ rows
    std::vector<uint16_t> terms_;
    std::vector<uint8_t> packed_;
    size_t held_ = 0;
};

class Merge {
 public:
    Merge(const RunLayout& layout,
          const std::vector<std::string>& paths,
          const std::function<void(uint64_t, uint64_t)>& progress)
            : layout_(layout),
              progress_(progress),
              lists_(layout.nlist),
              copies_(layout.nlist),
              buffer_(kCopied) {
        for (const std::string& path : paths) {
            add_run(path, paths.size());
        }
    }
    uint64_t rows() const {
        return rows_;
    }
    /// Sections that read the runs; each is produced once, in this order.
    void add_to(std::vector<Section>& sections) {
        add_table("", layout_.lists, lists_, sections);
        if (layout_.copies) {
            add_table(kOfCopies, *layout_.copies, copies_, sections);
        }
        add_columns("", layout_.lists, lists_, sections);
        if (layout_.copies) {
            add_columns(kOfCopies, *layout_.copies, copies_, sections);
        }
        add_apart("", lists_, sections);
        if (layout_.copies) {
            add_apart(kOfCopies, copies_, sections);
        }
    }

 private:
    /// Names the run that `work` fails with.
    template <class Work>
    void in_run(const std::string& path, Work&& work) {
        try {
            work();
        } catch (faiss::FaissException& error) {
            // without the zero byte at the end of msg
            error.msg = error.what() + (" (" + path + ")");
            throw;
        }
    }
    void add_run(const std::string& path, size_t paths) {
        in_run(path, [&] {
            runs_.push_back(std::make_unique<RunReader>(
                    path, layout_, buffer_bytes(paths)));
            RunReader& run = *runs_.back();
            FAISS_THROW_IF_NOT_FMT(
                    run.header().first == rows_ && run.header().rows > 0,
                    "it begins with row %llu, not with row %llu",
                    static_cast<unsigned long long>(run.header().first),
                    static_cast<unsigned long long>(rows_));
            rows_ += run.header().rows;
            total_ += run.bytes();
            lists_.add(run.sizes());
            if (layout_.copies) {
                copies_.add(run.copies());
            }
            run.drop_sizes();
        });
    }
    void add_table(
            const std::string& prefix,
            const EntryLayout& entries,
            const ListStarts& starts,
            std::vector<Section>& sections) {
        sections.push_back(
                {prefix + "lists", [&entries, &starts](SectionSink& sink) {
                     put_list_sizes(sink, entries, starts.totals());
                 }});
    }
    void add_columns(
            const std::string& prefix,
            const EntryLayout& entries,
            const ListStarts& starts,
            std::vector<Section>& sections) {
        visit_columns(entries, [&](const char* column, auto member, auto size) {
            const std::string name = prefix + column;
            using T = std::decay_t<decltype((ScaNNList().*member)[0])>;
            if constexpr (std::is_same_v<T, uint64_t>) {
                add_column(name, starts, sections, [this](auto&&... at) {
                    put_places(at...);
                });
            } else if (column == std::string("codes")) {
                auto packer = std::make_shared<CodePacker>(entries.packed());
                add_column(
                        name,
                        starts,
                        sections,
                        [packer](
                                SectionReader& from,
                                size_t,
                                size_t n,
                                SectionSink& sink) {
                            auto read = [&](uint8_t* out, size_t bytes) {
                                from.read(out, bytes);
                            };
                            packer->add(n, read, sink);
                        },
                        [packer](SectionSink& sink) {
                            packer->end_list(sink);
                        });
            } else {
                const size_t row = size(size_t(1)) * sizeof(T);
                add_column(
                        name,
                        starts,
                        sections,
                        [=, this](
                                SectionReader& from,
                                size_t,
                                size_t n,
                                SectionSink& sink) {
                            copy(n * row, from, sink);
                        });
            }
        });
    }
    /// @param put  (section, run, rows, sink) for each run of a list
    template <class Put>
    void add_column(
            const std::string& name,
            const ListStarts& starts,
            std::vector<Section>& sections,
            const Put& put,
            const std::function<void(SectionSink&)>& end_list = nullptr) {
        sections.push_back({name, [=, this, &starts](SectionSink& sink) {
                                enter_all(name);
                                for (size_t l = 0; l < layout_.nlist; l++) {
                                    put_list(l, starts, put, sink);
                                    if (end_list) {
                                        end_list(sink);
                                    }
                                    sink.align();
                                    report(sink);
                                }
                                leave_all();
                            }});
    }
    template <class Put>
    void put_list(
            size_t list,
            const ListStarts& starts,
            const Put& put,
            SectionSink& sink) {
        for (size_t r = 0; r < runs_.size(); r++) {
            const size_t n = starts.rows(r, list);
            if (n > 0) {
                in_run(runs_[r]->path(), [&] {
                    put(runs_[r]->sections(), r, n, sink);
                    runs_[r]->sections().align(false);
                });
            }
        }
    }
    void copy(size_t bytes, SectionReader& from, SectionSink& sink) {
        while (bytes > 0) {
            const size_t part = std::min(bytes, buffer_.size());
            from.read(buffer_.data(), part);
            sink.put(buffer_.data(), part);
            bytes -= part;
        }
    }
    /// Places of primary entries, moved behind those of the runs before.
    void
    put_places(SectionReader& from, size_t run, size_t n, SectionSink& sink) {
        for (size_t i = 0; i < n; i++) {
            uint64_t place;
            from.read(&place, sizeof(place));
            const uint64_t list = faiss::lo_listno(place);
            if (list >= layout_.nlist ||
                faiss::lo_offset(place) >= lists_.rows(run, list)) {
                from.fail("a copy of an entry that is in no list");
            }
            sink.put_value(uint64_t(place + lists_.start(run, list)));
        }
    }
    void add_apart(
            const std::string& prefix,
            const ListStarts& starts,
            std::vector<Section>& sections) {
        const std::string name = prefix + "apart";
        sections.push_back({name, [this, name, &starts](SectionSink& sink) {
                                enter_all(name);
                                std::vector<uint32_t> apart;
                                for (size_t l = 0; l < layout_.nlist; l++) {
                                    apart.clear();
                                    for (size_t r = 0; r < runs_.size(); r++) {
                                        read_apart(r, l, starts, apart);
                                    }
                                    sink.put_value(uint32_t(apart.size()));
                                    sink.put(apart.data(), 4 * apart.size());
                                }
                                leave_all();
                            }});
    }
    void read_apart(
            size_t run,
            size_t list,
            const ListStarts& starts,
            std::vector<uint32_t>& apart) {
        in_run(runs_[run]->path(), [&] {
            SectionReader& from = runs_[run]->sections();
            uint32_t n;
            from.read(&n, sizeof(n));
            const size_t rows = starts.rows(run, list);
            if (n > rows) {
                from.fail("more entries than their list has");
            }
            const size_t before = apart.size();
            apart.resize(before + n);
            from.read(apart.data() + before, n * sizeof(apart[0]));
            for (size_t i = before; i < apart.size(); i++) {
                if (apart[i] >= rows) {
                    from.fail("an entry that is not in its list");
                }
                apart[i] += uint32_t(starts.start(run, list));
            }
        });
    }
    void enter_all(const std::string& name) {
        for (auto& run : runs_) {
            in_run(run->path(), [&] { run->sections().enter(name); });
        }
    }
    void leave_all() {
        for (auto& run : runs_) {
            in_run(run->path(), [&] { run->sections().leave(); });
        }
    }
    void report(const SectionSink& sink) {
        if (sink.size() >= next_report_) {
            faiss::InterruptCallback::check();
            next_report_ = sink.size() + kStep;
            if (progress_) {
                progress_(std::min(sink.size(), total_), total_);
            }
        }
    }

    const RunLayout& layout_;
    const std::function<void(uint64_t, uint64_t)>& progress_;
    std::vector<std::unique_ptr<RunReader>> runs_;
    ListStarts lists_, copies_;
    std::vector<uint8_t> buffer_;
    uint64_t rows_ = 0, total_ = 0, next_report_ = 0;
};

} // namespace

size_t merge_memory(const RunLayout& layout, size_t runs) {
    const size_t sets = layout.copies ? 2 : 1;
    const size_t starts = (runs + 1) * layout.nlist * sizeof(uint32_t) * sets;
    const size_t sizes = 2 * layout.nlist * sizeof(uint64_t) * sets;
    const size_t packers =
            sets * kPackedRows * (3 * layout.lists.M + 2 * sizeof(uint16_t));
    return starts + sizes + packers + runs * buffer_bytes(runs) + kCopied;
}

void merge_runs(
        const std::string& trained,
        const RunLayout& layout,
        const std::vector<std::string>& runs,
        const std::string& target,
        const std::function<void(uint64_t done, uint64_t total)>& progress) {
    Merge merge(layout, runs, progress);
    const ModelSections model(trained, merge.rows());
    std::vector<Section> sections;
    model.add_to(sections);
    merge.add_to(sections);
    OutputFile file(target);
    stream_sections(sections, file);
    file.become_target();
}

} // namespace faiss_ext
