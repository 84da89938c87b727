/* Index files of more rows than memory holds: the bytes that building in memory
 * gives, from any source, also after interrupts; what is refused. */

#include <sys/resource.h>

#include <csignal>
#include <cstring>

#include <faiss_ext/build_index.h>
#include <faiss_ext/memory/row_sample.h>
#include <faiss_ext/memory/row_types.h>

#include "fixtures/child.h"
#include "fixtures/index_cases.h"
#include "fixtures/sanitizers.h"

using namespace cases;
using faiss_ext::BuildOptions;
using faiss_ext::IndexIVFScaNN;
using faiss_ext::RowType;
namespace fs = std::filesystem;

namespace {

/// Rows: few, in several pieces; more than training takes.
constexpr size_t kN = 6000, kMany = 103000, kDim = 8;
constexpr uint64_t kMemory = uint64_t(1) << 28;
constexpr size_t kPiece = 1024;
constexpr const char* kDescription = "IVF64,ScaNN(soar_lambda=1),RU8";

std::vector<uint8_t> made_bytes() {
    const std::vector<float> x =
            random_rows::uniform(kMany * kDim, 5); // of [0, 1)
    std::vector<uint8_t> bytes(x.size());
    for (size_t i = 0; i < x.size(); i++) {
        bytes[i] = uint8_t(256 * x[i]);
    }
    return bytes;
}

/// kMany, of which most tests take the first kN
const std::vector<uint8_t>& byte_rows() {
    static const std::vector<uint8_t> rows = made_bytes();
    return rows;
}

/// The file of an index that has all rows in memory.
std::string made_in_memory(
        const std::string& description,
        const void* x,
        size_t n,
        RowType type) {
    std::unique_ptr<IndexIVFScaNN> index(dynamic_cast<IndexIVFScaNN*>(
            faiss_ext::index_factory(kDim, description)));
    index->train_rows(int64_t(n), x, type);
    index->add_rows(int64_t(n), x, type);
    faiss::VectorIOWriter writer;
    faiss_ext::write_index(index.get(), &writer);
    return {writer.data.begin(), writer.data.end()};
}

const std::string& wanted(size_t n = kN) {
    static std::map<size_t, std::string> made;
    std::string& bytes = made[n];
    if (bytes.empty()) {
        bytes = made_in_memory(
                kDescription, byte_rows().data(), n, RowType::UInt8);
    }
    return bytes;
}

struct Stopped {};

class BuildIndex : public testing::Test {
 protected:
    std::unique_ptr<faiss_ext::RowSource> source(
            size_t n = kN,
            const std::vector<uint8_t>& rows = byte_rows()) {
        return faiss_ext::rows_in_memory(rows.data(), n, kDim, RowType::UInt8);
    }
    void expect_built() {
        EXPECT_TRUE(read_bytes(path) == wanted());
        EXPECT_FALSE(fs::exists(folder));
    }
    /// From the message about too little of it.
    uint64_t least_memory(faiss_ext::RowSource& rows) {
        const std::string message = message_of(
                [&] { build_index(kDescription, rows, path, {.memory = 1}); });
        const std::string before = "(allowed: >= ";
        const size_t at = message.find(before);
        EXPECT_NE(at, std::string::npos) << message;
        return at == std::string::npos
                       ? kMemory
                       : std::stoull(message.substr(at + before.size()));
    }
    size_t runs() const {
        size_t n = 0;
        while (fs::exists(folder + "/run-0000" + std::to_string(n))) {
            n++;
        }
        return n;
    }

    Directory directory;
    const std::string path = directory.file("out.scann");
    const std::string folder = path + ".build";
};

TEST_F(BuildIndex, GivesTheFileOfAllRowsInMemory) {
    auto rows = source();
    BuildOptions options{.memory = kMemory, .piece_rows = kPiece};
    std::map<std::string, size_t> stages;
    size_t most = 0;
    options.progress = [&](const std::string& stage, size_t done, size_t all) {
        EXPECT_LE(done, all);
        if (stage == "add" || stage == "merge") {
            EXPECT_EQ(all, kN);
            EXPECT_GE(done, stages[stage]) << stage;
        }
        stages[stage] = done;
        most = std::max(most, runs());
    };
    build_index(kDescription, *rows, path, options);
    expect_built();
    EXPECT_EQ(most, 6U); // or this tests nothing
    EXPECT_EQ(stages["add"], kN);
    EXPECT_EQ(stages["merge"], kN);
    EXPECT_EQ(stages.count("k-means") + stages.count("codebook"), 2U);
}

TEST_F(BuildIndex, ReadsFilesWithAndWithoutGaps) {
    for (size_t gap : {0, 4}) {
        const size_t stride = kDim + gap;
        std::string bytes(4 + kN * stride, 'g');
        for (size_t i = 0; i < kN; i++) {
            std::memcpy(&bytes[4 + i * stride], &byte_rows()[i * kDim], kDim);
        }
        bytes.resize(bytes.size() - gap); // none after the last row
        const std::string file = directory.file("rows");
        write_bytes(file, bytes);
        auto rows = faiss_ext::rows_in_file(
                file, kN, kDim, RowType::UInt8, 4, gap == 0 ? 0 : stride);
        build_index(
                kDescription,
                *rows,
                path,
                {.memory = kMemory, .piece_rows = kPiece});
        expect_built();
        // and one that ends early, before the start or meanwhile
        const std::string message = message_of([&] {
            faiss_ext::rows_in_file(
                    file, kN + 1, kDim, RowType::UInt8, 4, stride);
        });
        EXPECT_NE(message.find("in row 6000 of 6001"), std::string::npos)
                << message;
        fs::resize_file(file, 4 + 5000 * stride + 3);
        const std::string later = message_of([&] {
            build_index(kDescription, *rows, path, {.memory = kMemory});
        });
        EXPECT_NE(later.find("in row 5000 of 6000"), std::string::npos)
                << later;
        EXPECT_TRUE(read_bytes(path) == wanted());
        fs::remove_all(folder);
    }
}

TEST_F(BuildIndex, ReadsBeyond32Bits) {
    const std::string file = directory.file("rows");
    write_bytes(file, "");
    constexpr uint64_t kBytes = uint64_t(5) << 30; // of zeros: no disk
    fs::resize_file(file, kBytes);
    std::ofstream(file, std::ios::in | std::ios::binary)
            .seekp(kBytes - kDim)
            .write("lastrow!", kDim);
    for (uint64_t gap : {0, 8}) {
        const uint64_t stride = kDim + gap;
        const size_t n = kBytes / stride - 1;
        auto rows = faiss_ext::rows_in_file(
                file,
                n,
                kDim,
                RowType::UInt8,
                kBytes - (n - 1) * stride - kDim,
                stride);
        std::string read(2 * kDim, 'x');
        rows->read(n - 2, 2, read.data());
        EXPECT_EQ(read.substr(0, kDim), std::string(kDim, '\0'));
        EXPECT_EQ(read.substr(kDim), "lastrow!");
    }
}

TEST_F(BuildIndex, TakesRowsThatComeOnce) {
    size_t at = 0, asked = 0;
    faiss_ext::RowStream stream{.d = kDim, .type = RowType::UInt8};
    std::vector<uint8_t> piece; // other bytes at the next call
    stream.next = [&]() -> faiss_ext::RowStream::Piece {
        asked++;
        const size_t begin = std::exchange(at, std::min(at + 1500, kN));
        piece.assign(
                byte_rows().begin() + ptrdiff_t(begin * kDim),
                byte_rows().begin() + ptrdiff_t(at * kDim));
        return {piece.data(), at - begin};
    };
    auto rows = source();
    BuildOptions options{.memory = kMemory, .piece_rows = kPiece};
    options.progress = [&](const std::string& stage, size_t, size_t) {
        if (stage == "merge") {
            throw Stopped();
        }
    };
    EXPECT_THROW(build_index(kDescription, stream, path, options), Stopped);
    EXPECT_GT(runs(), 0U);
    EXPECT_EQ(asked, 5U);
    // they are all there: only the first piece is asked for
    options.progress = nullptr;
    at = asked = 0;
    build_index(kDescription, stream, path, options);
    expect_built();
    EXPECT_EQ(asked, 1U);
    // another number of rows than was said
    stream.n = kN + 1;
    at = 0;
    const std::string message = message_of(
            [&] { build_index(kDescription, stream, path, options); });
    EXPECT_NE(message.find("6000 rows came, not 6001"), std::string::npos);
}

TEST_F(BuildIndex, GoesOnWhereItWasStopped) {
    auto rows = source();
    BuildOptions options{.memory = kMemory, .piece_rows = kPiece};
    write_bytes(path, "old");
    size_t last_run = 0, stops = 0;
    for (bool stopped = true; stopped; stops++) {
        size_t calls = 0;
        stopped = false;
        // everywhere in training, then after each run
        const bool trained = fs::exists(folder + "/trained.scann");
        const size_t stop = trained ? 3 : 2 + 3 * stops;
        options.progress = [&](const char*, size_t done, size_t all) {
            if (++calls >= stop && done < all) {
                throw Stopped();
            }
        };
        try {
            build_index(kDescription, *rows, path, options);
        } catch (const Stopped&) {
            stopped = true;
            EXPECT_EQ(read_bytes(path), "old");
            EXPECT_GE(runs(), last_run);
            last_run = runs();
        }
    }
    EXPECT_EQ(last_run, 6U);
    EXPECT_GT(stops, 10U);
    expect_built();
}

TEST_F(BuildIndex, SaysTheLeastMemoryThatWorks) {
    auto rows = source(kMany);
    const uint64_t least = least_memory(*rows);
    EXPECT_NE(
            message_of([&] {
                build_index(kDescription, *rows, path, {.memory = least - 1});
            }),
            "");
    build_index(kDescription, *rows, path, {.memory = least});
    EXPECT_TRUE(read_bytes(path) == wanted(kMany));
}

/// Of a file, whose rows do not count.
TEST_F(BuildIndex, TakesTheMemoryThatItSays) {
#if FAISS_EXT_ADDRESS_SANITIZER || FAISS_EXT_THREAD_SANITIZER
    GTEST_SKIP() << "a sanitizer takes memory of its own";
#endif
    const std::string file = directory.file("rows");
    write_bytes(file, {byte_rows().begin(), byte_rows().end()});
    auto rows = faiss_ext::rows_in_file(file, kMany, kDim, RowType::UInt8);
    const uint64_t least = least_memory(*rows);
    auto kilobytes = [](const std::string& field) {
        std::ifstream status("/proc/self/status");
        for (std::string line; std::getline(status, line);) {
            if (line.rfind(field, 0) == 0) {
                return std::stoull(line.substr(field.size()));
            }
        }
        return 0ULL;
    };
    auto work = [&] {
        const uint64_t before = kilobytes("VmRSS:");
        build_index(kDescription, *rows, path, {.memory = least});
        const uint64_t taken = (kilobytes("VmHWM:") - before) << 10;
        // .95 of it, where all of this is used
        return taken < least + least / 10 && taken > least / 2;
    };
    EXPECT_EQ(in_child(work), "");
}

TEST_F(BuildIndex, NamesTheRowThatItDoesNotTake) {
    std::vector<float> floats(byte_rows().begin(), byte_rows().end());
    auto rows = faiss_ext::rows_in_memory(
            floats.data(), kMany, kDim, RowType::Float32);
    const BuildOptions options{.memory = kMemory, .piece_rows = 20 * kPiece};
    // one that training sees, one that it does not
    std::vector<size_t> sample = faiss_ext::sample_rows(kMany, 100000, 1234);
    std::sort(sample.begin(), sample.end());
    size_t unseen = 70000;
    while (std::binary_search(sample.begin(), sample.end(), unseen)) {
        unseen++;
    }
    for (size_t row : {sample.back(), unseen}) {
        for (float wrong : {NAN, 256.0f, 2.5f}) {
            const float right = std::exchange(floats[row * kDim + 3], wrong);
            const std::string message = message_of(
                    [&] { build_index(kDescription, *rows, path, options); });
            const std::string named = "row " + std::to_string(row);
            EXPECT_NE(message.find(named), std::string::npos) << message;
            EXPECT_NE(message.find("keeps what is done"), std::string::npos);
            floats[row * kDim + 3] = right;
        }
    }
    // nothing is lost
    EXPECT_GT(runs(), 0U);
    build_index(kDescription, *rows, path, options);
    EXPECT_TRUE(read_bytes(path) == wanted(kMany)); // as rows of bytes train
}

TEST_F(BuildIndex, TrainsOnAllFloatsIfTheyAreFew) {
    constexpr size_t kFew = 5000;
    const std::vector<float> x = rows(kFew, kDim, 3);
    auto source =
            faiss_ext::rows_in_memory(x.data(), kFew, kDim, RowType::Float32);
    for (const char* description : {"ScaNN", "IVF32,ScaNN,SQ8,RFlat"}) {
        build_index(description, *source, path, {.memory = 1 << 28});
        EXPECT_TRUE(
                read_bytes(path) ==
                made_in_memory(description, x.data(), kFew, RowType::Float32));
    }
}

TEST_F(BuildIndex, RefusesTheFolderOfAnotherBuild) {
    auto rows = source();
    BuildOptions options{.memory = kMemory, .piece_rows = kPiece};
    options.progress = [&](const std::string& stage, size_t, size_t) {
        if (stage == "merge") {
            // another process would find the folder locked, as this one does
            const std::string message = message_of([&] {
                build_index(
                        kDescription, *rows, path, {.memory = options.memory});
            });
            EXPECT_NE(message.find("another process"), std::string::npos)
                    << message;
            throw Stopped();
        }
    };
    EXPECT_THROW(build_index(kDescription, *rows, path, options), Stopped);
    options.progress = nullptr;
    std::string message = message_of(
            [&] { build_index("IVF64,ScaNN,RU8", *rows, path, options); });
    EXPECT_NE(message.find("holds another build"), std::string::npos);
    std::vector<uint8_t> others = byte_rows();
    others[0] ^= 1;
    auto other_rows = source(kN, others);
    message = message_of(
            [&] { build_index(kDescription, *other_rows, path, options); });
    EXPECT_NE(message.find("made of other rows"), std::string::npos) << message;
    // files of something else
    fs::remove_all(folder);
    fs::create_directory(folder);
    write_bytes(folder + "/mine", "x");
    message = message_of(
            [&] { build_index(kDescription, *rows, path, options); });
    EXPECT_NE(message.find("something else (mine)"), std::string::npos);
    EXPECT_EQ(read_bytes(folder + "/mine"), "x");
}

TEST_F(BuildIndex, LeavesTheTargetWhenTheDiskIsFull) {
    auto rows = source();
    const BuildOptions options{.memory = kMemory, .piece_rows = kPiece};
    write_bytes(path, "old");
    signal(SIGXFSZ, SIG_IGN);
    rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    // the trained index; a run; the result
    for (rlim_t most : {1 << 10, 1 << 14, 1 << 17}) {
        rlimit full = before;
        full.rlim_cur = most;
        setrlimit(RLIMIT_FSIZE, &full);
        const std::string message = message_of(
                [&] { build_index(kDescription, *rows, path, options); });
        setrlimit(RLIMIT_FSIZE, &before);
        EXPECT_NE(message.find("cannot write"), std::string::npos) << message;
        EXPECT_NE(message.find(directory.file("")), std::string::npos);
        EXPECT_EQ(read_bytes(path), "old");
    }
    EXPECT_GT(runs(), 2U);
    build_index(kDescription, *rows, path, options);
    expect_built();
}

TEST_F(BuildIndex, RefusesBeforeTheWork) {
    auto rows = source();
    auto none = faiss_ext::rows_in_memory(nullptr, 0, kDim, RowType::UInt8);
    auto wide = faiss_ext::rows_in_memory(nullptr, 1, 65537, RowType::UInt8);
    auto long_list = faiss_ext::rows_in_memory(
            byte_rows().data(), size_t(1) << 39, kDim, RowType::UInt8);
    const BuildOptions options{.memory = uint64_t(1) << 34};
    struct Wrong {
        const char* description;
        faiss_ext::RowSource& rows;
        std::string path;
        const char* message;
    } cases[] = {
            {"ScaNN", *none, path, "0 rows (allowed: 1..2^40)"},
            {"ScaNN", *wide, path, "d = 65537 (allowed: 1..65536)"},
            {"IVF64,ScaNN,RU8", *long_list, path, "use more lists"},
            {"PCA4,ScaNN", *rows, path, "without IDMap, PCA"},
            {"IDMap,ScaNN", *rows, path, "without IDMap, PCA"},
            {"IVF4,Flat", *rows, path, "makes a ScaNN index"},
            {"IVF300000,ScaNN", *rows, path, "nlist = 300000"},
            {"ScaNN", *rows, directory.file(""), "a directory"},
            {"ScaNN", *rows, directory.file("none/x"), "No such file"},
    };
    for (const Wrong& wrong : cases) {
        const std::string message = message_of([&] {
            build_index(wrong.description, wrong.rows, wrong.path, options);
        });
        EXPECT_NE(message.find(wrong.message), std::string::npos)
                << wrong.description << ": " << message;
    }
    EXPECT_EQ(directory.files(), 0U);
}

} // namespace
