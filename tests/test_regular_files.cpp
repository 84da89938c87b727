/* Paths that are no regular file, read and written; a file that is replaced
 * while it is read. test_index_io has the files themselves. */

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <atomic>
#include <thread>

#include <faiss_ext/regular_files.h>

#include "index_cases.h"

using namespace cases;
using faiss_ext::InputFile;
using faiss_ext::ReadMode;
namespace fs = std::filesystem;

namespace {

/// A path of each kind that is no regular file, and what messages call it.
class Irregular : public testing::Test {
 protected:
    void SetUp() override {
        // waiting for the other end of a pipe would take for ever
        alarm(60);
        std::string pipe = directory.file("pipe");
        ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
        std::string link = directory.file("link");
        fs::create_symlink(pipe, link);
        fs::create_directory(directory.file("folder"));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::string socket_path = directory.file("socket");
        ASSERT_LT(socket_path.size(), sizeof(address.sun_path));
        socket_path.copy(address.sun_path, socket_path.size());
        socket_ = socket(AF_UNIX, SOCK_STREAM, 0);
        ASSERT_EQ(
                bind(socket_,
                     reinterpret_cast<sockaddr*>(&address),
                     sizeof(address)),
                0);
        paths = {
                {pipe, "a pipe"},
                {link, "a pipe"},
                {directory.file("folder"), "a directory"},
                {socket_path, "a socket"},
                {"/dev/zero", "a device"}};
    }
    void TearDown() override {
        alarm(0);
        close(socket_);
    }

    template <class Work>
    void expect_refused(Work&& work) {
        for (auto& path : paths) {
            std::string message = message_of([&] { work(path.first); });
            EXPECT_NE(message.find("it is " + path.second), std::string::npos)
                    << path.first << ": " << message;
        }
    }

    Directory directory;
    std::vector<std::pair<std::string, std::string>> paths;

 private:
    int socket_ = -1;
};

} // namespace

TEST_F(Irregular, IsNotRead) {
    for (ReadMode mode : {ReadMode::Copy, ReadMode::Mmap}) {
        expect_refused([&](const std::string& path) {
            delete faiss_ext::read_index(path, mode);
        });
    }
}

TEST_F(Irregular, IsNotWrittenNorReplaced) {
    IndexPtr index = build({"IVF16,ScaNN"}, 100);
    size_t files = directory.files();
    expect_refused([&](const std::string& path) {
        faiss_ext::write_index(index.get(), path);
    });
    EXPECT_EQ(directory.files(), files);
    EXPECT_TRUE(fs::is_fifo(directory.file("pipe")));
    EXPECT_TRUE(fs::is_symlink(directory.file("link")));
    EXPECT_TRUE(fs::is_socket(directory.file("socket")));
    EXPECT_TRUE(fs::is_character_file("/dev/zero"));
}

TEST_F(Irregular, WriterOfAPipeIsNotDisturbed) {
    std::string pipe = directory.file("pipe");
    // A reader that comes and goes would end this writer by SIGPIPE.
    int both = open(pipe.c_str(), O_RDWR | O_NONBLOCK);
    ASSERT_EQ(write(both, "waiting", 7), 7);
    EXPECT_NE(message_of([&] { InputFile file(pipe); }), "");
    char kept[8] = {};
    EXPECT_EQ(::read(both, kept, 7), 7);
    EXPECT_STREQ(kept, "waiting");
    close(both);
}

TEST(InputFile, NamesWhatIsMissingOrEmpty) {
    Directory directory;
    std::string missing = directory.file("missing");
    std::string message = message_of([&] { InputFile file(missing); });
    EXPECT_NE(message.find(missing), std::string::npos) << message;
    EXPECT_NE(message.find("No such file"), std::string::npos) << message;
    write_bytes(directory.file("empty"), "");
    message = message_of([&] { InputFile file(directory.file("empty")); });
    EXPECT_NE(message.find("empty"), std::string::npos) << message;
}

TEST(InputFile, StaysTheSameWhenReplaced) {
    Directory directory;
    std::string path = directory.file("a");
    write_bytes(path, "the first");
    InputFile file(path);
    auto mapped = file.map();
    write_bytes(directory.file("b"), "another");
    fs::rename(directory.file("b"), path);
    EXPECT_EQ(file.size(), 9u);
    char bytes[9];
    ASSERT_EQ(fread(bytes, 1, 9, file.stream()), 9u);
    EXPECT_EQ(std::string(bytes, 9), "the first");
    EXPECT_EQ(std::memcmp(mapped.get(), "the first", 9), 0);
}

TEST(InputFile, IsWholeWhileAnotherThreadSaves) {
    Directory directory;
    std::string path = directory.file("a.scann");
    IndexPtr small = build({"IVF16,ScaNN"}, 100);
    IndexPtr large = build({"IVF16,ScaNN,RFlat"}, 1000);
    faiss_ext::write_index(small.get(), path);
    std::atomic<bool> done = false;
    std::thread writer([&] {
        for (int i = 0; !done; i++) {
            faiss_ext::write_index((i % 2 ? small : large).get(), path);
        }
    });
    for (int i = 0; i < 400; i++) {
        auto mode = i % 2 ? ReadMode::Copy : ReadMode::Mmap;
        std::string message =
                message_of([&] { delete faiss_ext::read_index(path, mode); });
        ASSERT_EQ(message, "") << i;
    }
    done = true;
    writer.join();
}
