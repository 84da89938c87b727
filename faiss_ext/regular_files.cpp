#include <faiss_ext/regular_files.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include <faiss/impl/FaissAssert.h>

namespace faiss_ext {

namespace {

[[noreturn]] void fail(const char* what, const std::string& path) {
    FAISS_THROW_FMT("%s %s: %s", what, path.c_str(), strerror(errno));
}

const char* kind_of(const struct stat& status) {
    switch (status.st_mode & S_IFMT) {
        case S_IFDIR:
            return "a directory";
        case S_IFIFO:
            return "a pipe";
        case S_IFSOCK:
            return "a socket";
        case S_IFCHR:
        case S_IFBLK:
            return "a device";
    }
    return "something else";
}

void check_regular(
        const struct stat& status,
        const char* what,
        const std::string& path) {
    FAISS_THROW_IF_NOT_FMT(
            S_ISREG(status.st_mode),
            "%s %s: it is %s, not a regular file",
            what,
            path.c_str(),
            kind_of(status));
}

constexpr const char* kCannotRead = "cannot read the index file";

} // namespace

InputFile::InputFile(const std::string& path) : path_(path) {
    struct stat status;
    if (stat(path.c_str(), &status) != 0) {
        fail(kCannotRead, path);
    }
    check_regular(status, kCannotRead, path);
    // Something else may have taken its place since: that must not wait.
    int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0) {
        fail(kCannotRead, path);
    }
    stream_.reset(fdopen(file, "rb"));
    if (stream_ == nullptr) {
        int error = errno;
        close(file);
        errno = error;
        fail(kCannotRead, path);
    }
    if (fstat(file, &status) != 0) {
        fail(kCannotRead, path);
    }
    check_regular(status, kCannotRead, path);
    FAISS_THROW_IF_NOT_FMT(
            status.st_size > 0,
            "%s %s: it is empty",
            kCannotRead,
            path.c_str());
    size_ = uint64_t(status.st_size);
}

std::shared_ptr<const uint8_t> InputFile::map() const {
    void* memory = mmap(
            nullptr, size_, PROT_READ, MAP_SHARED, fileno(stream_.get()), 0);
    if (memory == MAP_FAILED) {
        fail("cannot map the index file", path_);
    }
    return std::shared_ptr<const uint8_t>(
            static_cast<const uint8_t*>(memory),
            [size = size_](const uint8_t* data) {
                munmap(const_cast<uint8_t*>(data), size);
            });
}

OutputFile::OutputFile(const std::string& target) : target_(target) {
    namespace fs = std::filesystem;
    std::error_code error;
    // Through a symbolic link: the file is replaced, not the link.
    if (fs::is_symlink(target_, error)) {
        fs::path resolved = fs::weakly_canonical(target_, error);
        if (!error) {
            target_ = resolved.string();
        }
    }
    struct stat existing;
    bool exists = stat(target_.c_str(), &existing) == 0;
    if (exists) {
        check_regular(existing, "cannot write the index to", target_);
    }
    static std::atomic<unsigned> counter{0};
    do {
        name = target_ + ".tmp" + std::to_string(getpid()) + "-" +
               std::to_string(counter++);
        file_ = open(
                name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (file_ < 0 && errno == EEXIST);
    if (file_ < 0) {
        fail("cannot write the index: creating", name);
    }
    if (exists) {
        // the permissions people gave the old file; best effort
        (void)!fchmod(file_, existing.st_mode & 07777);
    }
}

OutputFile::~OutputFile() {
    if (file_ >= 0) {
        close(file_);
    }
    if (!kept_) {
        unlink(name.c_str());
    }
}

size_t OutputFile::operator()(const void* data, size_t size, size_t n) {
    auto bytes = static_cast<const char*>(data);
    size_t left = size * n;
    while (left > 0) {
        ssize_t written = write(file_, bytes, left);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            break;
        }
        bytes += written;
        left -= size_t(written);
    }
    return left == 0 ? n : n - (left + size - 1) / size;
}

void OutputFile::become_target() {
    if (fsync(file_) != 0) {
        fail("cannot write the index: syncing", name);
    }
    int file = file_;
    file_ = -1;
    if (close(file) != 0) {
        fail("cannot write the index: closing", name);
    }
    if (rename(name.c_str(), target_.c_str()) != 0) {
        fail("cannot write the index: renaming to", target_);
    }
    kept_ = true;
    // The new file is there and whole; that its name survives a power cut
    // too is not an error to report if the directory cannot be synced.
    auto parent = std::filesystem::path(target_).parent_path();
    const char* directory = parent.empty() ? "." : parent.c_str();
    int handle = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (handle >= 0) {
        (void)!fsync(handle);
        close(handle);
    }
}

} // namespace faiss_ext
