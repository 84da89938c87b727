/* Paths that are no regular file, read and written; a file that is replaced
 * while it is read. test_index_io has the files themselves. */

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <atomic>
#include <thread>

#include <faiss_ext/io/regular_files.h>

#include "fixtures/index_cases.h"

using namespace cases;
using faiss_ext::InputFile;
using faiss_ext::OutputFile;
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

// ---- what is written beside the target ----

namespace {

/// A process that has begun to save to a path.
class Saver {
 public:
    explicit Saver(const std::string& path) {
        int begun[2], go_on[2];
        EXPECT_EQ(pipe(begun) | pipe(go_on), 0);
        process_ = fork();
        if (process_ == 0) {
            try {
                OutputFile file(path);
                file("half a file", 1, 11);
                (void)!::write(begun[1], "", 1);
                char byte;
                (void)!::read(go_on[0], &byte, 1);
                file.become_target();
                _exit(0);
            } catch (...) {
                _exit(1);
            }
        }
        char byte;
        EXPECT_EQ(::read(begun[0], &byte, 1), 1);
        go_on_ = go_on[1];
        close(begun[0]);
        close(begun[1]);
        close(go_on[0]);
    }
    ~Saver() {
        if (process_ > 0) {
            kill_it();
        }
        close(go_on_);
    }
    void kill_it() {
        kill(process_, SIGKILL);
        waitpid(process_, nullptr, 0);
        process_ = 0;
    }
    /// @return whether it ended well
    bool finish() {
        (void)!::write(go_on_, "", 1);
        int status = 1;
        waitpid(process_, &status, 0);
        process_ = 0;
        return status == 0;
    }

 private:
    pid_t process_ = 0;
    int go_on_ = -1;
};

} // namespace

TEST(OutputFile, TakesTheLongestNames) {
    Directory directory;
    IndexPtr index = build({"IVF16,ScaNN"}, 100);
    for (size_t length : {240, 250, 255}) {
        std::string path = directory.file(std::string(length, 'n'));
        faiss_ext::write_index(index.get(), path);
        IndexPtr(faiss_ext::read_index(path));
    }
    std::string path = directory.file(std::string(256, 'n'));
    std::string message =
            message_of([&] { faiss_ext::write_index(index.get(), path); });
    EXPECT_NE(message.find("name too long"), std::string::npos) << message;
    EXPECT_EQ(directory.files(), 3u);
}

TEST(OutputFile, WhatKilledProcessesLeftIsRemoved) {
    Directory directory;
    std::string path = directory.file("a.scann");
    {
        Saver first(path), second(path), third(directory.file("other"));
        EXPECT_EQ(directory.files(), 3u);
        second.kill_it();
        third.kill_it();
        first.kill_it();
    }
    EXPECT_EQ(directory.files(), 3u);
    IndexPtr index = build({"IVF16,ScaNN"}, 100);
    faiss_ext::write_index(index.get(), path);
    EXPECT_EQ(directory.files(), 2u); // and what was to be "other"
    IndexPtr(faiss_ext::read_index(path));
}

TEST(OutputFile, WhatLivingProcessesWriteStays) {
    Directory directory;
    std::string path = directory.file("a.scann");
    Saver other(path);
    write_bytes(directory.file("a.scann.tmp17-0"), "somebody's");
    IndexPtr index = build({"IVF16,ScaNN"}, 100);
    faiss_ext::write_index(index.get(), path);
    EXPECT_EQ(directory.files(), 3u);
    EXPECT_TRUE(other.finish());
    EXPECT_EQ(read_bytes(path), "half a file");
    EXPECT_EQ(directory.files(), 2u);
}

TEST(OutputFile, LinksByItsNameAreNotFollowed) {
    Directory directory;
    std::string path = directory.file("a.scann");
    std::string name;
    {
        OutputFile file(path);
        name = file.name;
    }
    std::string victim = directory.file("victim");
    write_bytes(victim, "kept");
    fs::create_symlink(victim, name);
    IndexPtr index = build({"IVF16,ScaNN"}, 100);
    faiss_ext::write_index(index.get(), path);
    EXPECT_EQ(read_bytes(victim), "kept");
    EXPECT_TRUE(fs::is_symlink(name));
    IndexPtr(faiss_ext::read_index(path));
}

TEST(OutputFile, ManyThreadsSaveToOnePath) {
    Directory directory;
    std::string path = directory.file("a.scann");
    std::vector<std::thread> threads;
    std::atomic<size_t> failed = 0;
    for (int t = 0; t < 4; t++) {
        threads.emplace_back([&] {
            for (int i = 0; i < 100; i++) {
                failed += message_of([&] {
                              OutputFile file(path);
                              file("whole", 1, 5);
                              file.become_target();
                          }) != "";
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(failed, 0u);
    EXPECT_EQ(directory.files(), 1u);
    EXPECT_EQ(read_bytes(path), "whole");
}
