#include <faiss_ext/build_index.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <vector>

#include <zlib.h>

#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/add.h>
#include <faiss_ext/index/train.h>
#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>
#include <faiss_ext/io/build_folder.h>
#include <faiss_ext/io/build_plan.h>
#include <faiss_ext/memory/file_fault.h>
#include <faiss_ext/io/merge_runs.h>
#include <faiss_ext/io/regular_files.h>
#include <faiss_ext/memory/row_types.h>
#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

namespace {

/// Bytes of rows that are read between two looks at interrupts.
constexpr size_t kReadBytes = size_t(16) << 20;
/// Sampled rows so close together are read with the rows between them.
constexpr size_t kGapBytes = size_t(32) << 10;

/// Disk in multiples of the result: the result, and the runs.
constexpr uint64_t kTimesResult = 2;

using Scann = std::unique_ptr<IndexIVFScaNN>;

Scann as_scann(std::unique_ptr<faiss::Index> index) {
    auto scann = dynamic_cast<IndexIVFScaNN*>(index.get());
    FAISS_THROW_IF_NOT_MSG(
            scann != nullptr,
            "build_index() makes a ScaNN index by itself (allowed: "
            "[IVF<nlist>,]ScaNN.., without IDMap, PCA, OPQ, L2norm)");
    index.release();
    return Scann(scann);
}

Scann new_index(
        const std::string& description,
        size_t d,
        const BuildOptions& options) {
    FAISS_THROW_IF_NOT_FMT(
            d >= 1 && d <= 65536, "d = %zu (allowed: 1..65536)", d);
    return as_scann(std::unique_ptr<faiss::Index>(
            index_factory(int(d), description, options.metric)));
}

/// What the folder of a build remembers of it.
struct BuildName {
    const std::string& description;
    size_t d;
    RowType type;
    std::string rows;
    faiss::MetricType metric;
};

BuildFolder::Identity identity_of(const BuildName& name) {
    const bool l2 = name.metric == faiss::METRIC_L2;
    return {{"description", name.description},
            {"metric", l2 ? "L2" : "inner product"},
            {"dimensions", std::to_string(name.d)},
            {"type", name_of(name.type)},
            {"rows", name.rows}};
}

BuildFolder open_folder(const std::string& target, const BuildName& name) {
    return with_file([&] { return BuildFolder(target, identity_of(name)); });
}

/// Refuses what cannot be written, and too little room for `needed` bytes, the
/// folder of the build included.
void check_disk(const std::string& target, uint64_t needed) {
    FAISS_THROW_IF_NOT_MSG(
            !target.empty(), "path is empty (allowed: that of a file)");
    with_file([&] {
        OutputFile probe(target);
        const auto parent = std::filesystem::path(target).parent_path();
        const std::string folder = parent.empty() ? "." : parent.string();
        const uint64_t kept = bytes_kept(target);
        const uint64_t missing = needed > kept ? needed - kept : 0;
        const uint64_t free = free_bytes(folder);
        FAISS_THROW_IF_NOT_FMT(
                free >= missing,
                "%s: %llu bytes are needed there, %llu are free",
                folder.c_str(),
                static_cast<unsigned long long>(missing),
                static_cast<unsigned long long>(free));
    });
}

/// One build of rows that can be read again.
class Build {
 public:
    Build(Scann index,
          RowSource& rows,
          BuildFolder& folder,
          const BuildPlan& plan,
          const BuildOptions& options)
            : index_(std::move(index)),
              rows_(rows),
              folder_(folder),
              plan_(plan),
              options_(options),
              row_bytes_(rows.d() * value_bytes(rows.type())) {}

    void run(const std::string& target) {
        train();
        layout_ = RunLayout::of(index_->state());
        size_t runs = 0, done = 0;
        for (; done < rows_.n(); runs++) {
            if (std::filesystem::exists(folder_.run(runs))) {
                done += rows_of(runs, done);
            } else {
                done += add(runs, done);
            }
        }
        index_.reset();
        with_file([&] { merge(runs, target); });
    }

 private:
    void train() {
        const std::string path = folder_.trained();
        if (!std::filesystem::exists(path)) {
            index_->progress = options_.progress;
            train_on_sample();
            with_file([&] { write_index(index_.get(), path); });
        }
        // what was saved, also the first time: one way for all builds
        index_.reset();
        with_file([&] {
            index_ = as_scann(std::unique_ptr<faiss::Index>(read_index(path)));
            training_ = file_checksum(path);
        });
    }

    void train_on_sample() {
        const TrainingSample sample = training_sample(*index_, rows_.n());
        std::vector<float> floats(sample.count * rows_.d());
        std::vector<size_t> numbers = sample.rows();
        if (numbers.empty()) {
            numbers.resize(sample.count);
            std::iota(numbers.begin(), numbers.end(), size_t(0));
        }
        gather(numbers, floats.data());
        numbers = {};
        faiss_ext::train_on_sample(*index_, sample, floats.data());
    }

    /// Rows of the source as floats, read in the order of the source.
    void gather(const std::vector<size_t>& numbers, float* out) {
        std::vector<size_t> order(numbers.size());
        std::iota(order.begin(), order.end(), size_t(0));
        std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
            return numbers[a] < numbers[b];
        });
        const size_t most = std::max<size_t>(kReadBytes / row_bytes_, 1);
        const size_t gap = kGapBytes / row_bytes_ + 1;
        std::vector<uint8_t> block;
        std::vector<float> scaled;
        for (size_t i = 0; i < order.size();) {
            faiss::InterruptCallback::check();
            const size_t begin = numbers[order[i]];
            size_t end = begin + 1, next = i + 1;
            for (; next < order.size() && numbers[order[next]] < end + gap &&
                   numbers[order[next]] < begin + most;
                 next++) {
                end = numbers[order[next]] + 1;
            }
            const uint8_t* rows = rows_at(begin, end - begin, block);
            for (; i < next; i++) {
                const size_t number = numbers[order[i]];
                float* row = out + order[i] * rows_.d();
                to_floats(
                        rows_.type(),
                        rows_.d(),
                        rows + (number - begin) * row_bytes_,
                        row);
                // what the index would not take later
                const RowType kept = index_->options.raw_type;
                prepare_rows(index_->state(), 1, row, "row", scaled, number);
                if (rows_.type() != kept) {
                    check_held(kept, 1, rows_.d(), row, "row", number);
                }
            }
        }
    }

    /// Rows of the source: in place, or in `block`.
    const uint8_t*
    rows_at(size_t begin, size_t count, std::vector<uint8_t>& block) {
        if (auto all = static_cast<const uint8_t*>(rows_.in_memory())) {
            return all + begin * row_bytes_;
        }
        block.resize(count * row_bytes_);
        const size_t most = std::max<size_t>(kReadBytes / row_bytes_, 1);
        for (size_t at = 0; at < count; at += most) {
            faiss::InterruptCallback::check();
            rows_.read(
                    begin + at,
                    std::min(most, count - at),
                    block.data() + at * row_bytes_);
        }
        return block.data();
    }

    /// CRC-32 of the first and the last of some rows.
    uint32_t ends_of(const uint8_t* first, const uint8_t* last) const {
        const auto crc = crc32(0, first, uInt(row_bytes_));
        return uint32_t(crc32(crc, last, uInt(row_bytes_)));
    }

    /// Rows of a run that is there. @throws if it is not of this build
    size_t rows_of(size_t run, size_t first) {
        const std::string path = folder_.run(run);
        RunHeader header;
        with_file([&] {
            header = RunReader(path, layout_, kReadBytes / 256).header();
            FAISS_THROW_IF_NOT_FMT(
                    header.training == training_ && header.first == first &&
                            header.rows >= 1 &&
                            header.rows <= rows_.n() - first,
                    "%s: not of this build (remove the folder)",
                    path.c_str());
        });
        std::vector<uint8_t> a, b;
        const size_t last = first + header.rows - 1;
        FAISS_THROW_IF_NOT_FMT(
                header.ends ==
                        ends_of(rows_at(first, 1, a), rows_at(last, 1, b)),
                "%s: made of other rows %zu..%zu than these (remove the folder "
                "to begin anew)",
                path.c_str(),
                first,
                last);
        return header.rows;
    }

    /// Makes a run. @return its rows
    size_t add(size_t run, size_t first) {
        const size_t n = std::min(plan_.run_rows, rows_.n() - first);
        if (options_.progress) {
            index_->progress = [&](const char* stage, size_t done, size_t) {
                options_.progress(stage, first + done, rows_.n());
            };
        }
        RunHeader header{first, n, training_, 0};
        {
            std::vector<uint8_t> block;
            std::vector<int64_t> ids(n);
            std::iota(ids.begin(), ids.end(), int64_t(first));
            const uint8_t* rows = rows_at(first, n, block);
            add_rows(
                    *index_,
                    n,
                    {rows, rows_.type(), rows_.d()},
                    ids.data(),
                    first);
            header.ends = ends_of(rows, rows + (n - 1) * row_bytes_);
        }
        with_file(
                [&] { write_run(folder_.run(run), header, index_->state()); });
        index_->reset();
        return n;
    }

    void merge(size_t runs, const std::string& target) {
        std::vector<std::string> paths(runs);
        for (size_t i = 0; i < runs; i++) {
            paths[i] = folder_.run(i);
        }
        auto report = [&](uint64_t done, uint64_t total) {
            if (options_.progress) {
                const double share =
                        double(done) / double(std::max<uint64_t>(total, 1));
                options_.progress(
                        "merge", size_t(double(rows_.n()) * share), rows_.n());
            }
        };
        report(0, 1);
        merge_runs(folder_.trained(), layout_, paths, target, report);
        report(1, 1);
    }

    Scann index_;
    RowSource& rows_;
    BuildFolder& folder_;
    const BuildPlan plan_;
    const BuildOptions& options_;
    const size_t row_bytes_;
    RunLayout layout_;
    uint32_t training_ = 0;
};

/// Says what becomes of the work that was done.
template <class Work>
void in_folder(const BuildFolder& folder, Work&& work) {
    const std::string kept =
            "; " + folder.path() +
            " keeps what is done: the same call goes on from there";
    try {
        work();
    } catch (const FileFault& error) {
        throw FileFault(error.what() + kept);
    } catch (const faiss::FaissException& error) {
        throw faiss::FaissException(error.what() + kept);
    }
}

/// The rows of a stream, written to a file. @param piece  the first
void write_rows(
        const RowStream& stream,
        RowStream::Piece piece,
        const std::string& path,
        const ScaNNProgress& progress) {
    const size_t row = stream.d * value_bytes(stream.type);
    auto report = [&](size_t done, size_t total) {
        if (progress) {
            progress("rows", done, total);
        }
    };
    OutputFile file(path);
    size_t n = 0;
    for (; piece.n > 0; piece = stream.next()) {
        faiss::InterruptCallback::check();
        report(n, stream.n);
        if (file(piece.rows, row, piece.n) != piece.n) {
            fail_with_errno("cannot write", path);
        }
        n += piece.n;
    }
    FAISS_THROW_IF_NOT_FMT(
            stream.n == 0 || stream.n == n,
            "%zu rows came, not %zu",
            n,
            stream.n);
    with_file([&] { file.become_target(); });
    report(n, n);
}

/// The rows of a stream, from the folder.
std::unique_ptr<RowSource> rows_of_stream(
        const RowStream& stream,
        const BuildFolder& folder,
        const ScaNNProgress& progress) {
    const std::string path = folder.rows();
    const RowStream::Piece piece = stream.next();
    FAISS_THROW_IF_NOT_MSG(piece.n > 0, "0 rows (allowed: 1..2^40)");
    const size_t row = stream.d * value_bytes(stream.type);
    const bool were_there = std::filesystem::exists(path);
    if (!were_there) {
        write_rows(stream, piece, path, progress); // piece.rows are gone then
    }
    const size_t n = size_t(std::filesystem::file_size(path)) / row;
    auto rows = with_file(
            [&] { return rows_in_file(path, n, stream.d, stream.type); });
    if (were_there) {
        std::vector<uint8_t> first(std::min(n, piece.n) * row);
        rows->read(0, first.size() / row, first.data());
        FAISS_THROW_IF_NOT_FMT(
                piece.n <= n &&
                        std::memcmp(first.data(), piece.rows, first.size()) ==
                                0,
                "%s: made of other rows than these (remove the folder to begin "
                "anew)",
                path.c_str());
    }
    return rows;
}

BuildPlan checked_plan(
        const IndexIVFScaNN& index,
        const RowSource& rows,
        const BuildOptions& options) {
    FAISS_THROW_IF_NOT_FMT(
            rows.n() >= 1 && rows.n() <= size_t(1) << 40,
            "%zu rows (allowed: 1..2^40)",
            rows.n());
    return plan_build(
            index,
            {rows.n(), rows.type(), rows.in_memory() != nullptr},
            options.memory,
            options.piece_rows);
}

} // namespace

void build_index(
        const std::string& description,
        RowSource& rows,
        const std::string& path,
        const BuildOptions& options) {
    Scann index = new_index(description, rows.d(), options);
    const BuildPlan plan = checked_plan(*index, rows, options);
    check_disk(path, kTimesResult * plan.result_bytes);
    BuildFolder folder = open_folder(
            path,
            {description,
             rows.d(),
             rows.type(),
             std::to_string(rows.n()),
             options.metric});
    in_folder(folder, [&] {
        Build(std::move(index), rows, folder, plan, options).run(path);
    });
    folder.remove();
}

void build_index(
        const std::string& description,
        const RowStream& stream,
        const std::string& path,
        const BuildOptions& options) {
    Scann index = new_index(description, stream.d, options);
    check_disk(path, stream.n * stream.d * value_bytes(stream.type));
    BuildFolder folder = open_folder(
            path,
            {description, stream.d, stream.type, "a stream", options.metric});
    in_folder(folder, [&] {
        auto rows = rows_of_stream(stream, folder, options.progress);
        const BuildPlan plan = checked_plan(*index, *rows, options);
        check_disk(
                path,
                kTimesResult * plan.result_bytes +
                        rows->n() * stream.d * value_bytes(stream.type));
        Build(std::move(index), *rows, folder, plan, options).run(path);
    });
    folder.remove();
}

} // namespace faiss_ext
