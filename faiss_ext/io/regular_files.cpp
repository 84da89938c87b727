#include <faiss_ext/io/regular_files.h>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/memory/file_fault.h>

namespace faiss_ext {

namespace {

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

/// Names that are tried when looking for files of killed processes.
constexpr size_t kOldNames = 16;

class Descriptor {
 public:
    explicit Descriptor(int file) : file_(file) {}
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() {
        if (file_ >= 0) {
            close(file_);
        }
    }
    int get() const {
        return file_;
    }

 private:
    int file_;
};

/// FNV-1a, as 16 hexadecimal digits
std::string digest(const std::string& text) {
    uint64_t hash = 0xcbf29ce484222325;
    for (char c : text) {
        hash = (hash ^ uint8_t(c)) * 0x100000001b3;
    }
    char digits[17];
    snprintf(digits, sizeof(digits), "%016" PRIx64, hash);
    return digits;
}

/// An id of this boot of the machine, the same for all its processes; where it
/// is not known, an id of this process.
std::string boot_name() {
    std::ifstream file("/proc/sys/kernel/random/boot_id");
    std::string id;
    std::getline(file, id);
    return digest(id.empty() ? "process " + std::to_string(getpid()) : id);
}

/// Names of temporary files for this target; to be followed by a number.
std::string temporary_prefix(const std::string& target) {
    std::filesystem::path path(target);
    std::string own = "faiss_ext-" + digest(path.filename().string()) + "-" +
                      boot_name() + "-";
    return (path.parent_path() / own).string();
}

/// Removes the file of that name if its process has ended.
/// @return whether it did
bool remove_abandoned(const std::string& path) {
    Descriptor file(
            open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    struct stat opened, named;
    // A lock ends with its process. A process that has made the file but not
    // yet locked it finds, after locking it, that it was removed.
    return file.get() >= 0 && fstat(file.get(), &opened) == 0 &&
           S_ISREG(opened.st_mode) && opened.st_uid == geteuid() &&
           flock(file.get(), LOCK_EX | LOCK_NB) == 0 &&
           stat(path.c_str(), &named) == 0 && named.st_dev == opened.st_dev &&
           named.st_ino == opened.st_ino && unlink(path.c_str()) == 0;
}

} // namespace

InputFile::InputFile(const std::string& path, const char* what) : path_(path) {
    struct stat status;
    if (stat(path.c_str(), &status) != 0) {
        fail_with_errno(what, path);
    }
    check_regular(status, what, path);
    // It may have been replaced since: opening a pipe must not wait.
    int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0) {
        fail_with_errno(what, path);
    }
    stream_.reset(fdopen(file, "rb"));
    if (stream_ == nullptr) {
        int error = errno;
        close(file);
        errno = error;
        fail_with_errno(what, path);
    }
    if (fstat(file, &status) != 0) {
        fail_with_errno(what, path);
    }
    check_regular(status, what, path);
    FAISS_THROW_IF_NOT_FMT(
            status.st_size > 0, "%s %s: it is empty", what, path.c_str());
    size_ = uint64_t(status.st_size);
}

std::shared_ptr<const uint8_t> InputFile::map() const {
    void* memory = mmap(
            nullptr, size_, PROT_READ, MAP_SHARED, fileno(stream_.get()), 0);
    if (memory == MAP_FAILED) {
        fail_with_errno("cannot map the index file", path_);
    }
    return std::shared_ptr<const uint8_t>(
            static_cast<const uint8_t*>(memory),
            [memory, size = size_](const uint8_t*) { munmap(memory, size); });
}

void InputFile::forget_pages(
        const std::shared_ptr<const uint8_t>& mapping) const {
    // advice: without it they stay until the system wants them
    madvise(const_cast<uint8_t*>(mapping.get()), size_, MADV_DONTNEED);
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
    const std::string prefix = temporary_prefix(target_);
    for (size_t i = 0; i < kOldNames; i++) {
        remove_abandoned(prefix + std::to_string(i));
    }
    for (size_t i = 0; !create(prefix + std::to_string(i)); i++) {
    }
    if (exists) {
        // keeps the permissions of the old file, if that is possible
        (void)!fchmod(file_, existing.st_mode & 07777);
    }
}

/// @return false if the name is taken
bool OutputFile::create(const std::string& path) {
    name = path;
    int file =
            open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0 && errno == EEXIST) {
        return false;
    }
    if (file < 0) {
        fail_with_errno(
                ("cannot write the index to " + target_ + ": creating").c_str(),
                path);
    }
    struct stat status;
    const bool locked = flock(file, LOCK_EX | LOCK_NB) == 0;
    // removed by another process' remove_abandoned() before it was locked
    if ((!locked && errno == EWOULDBLOCK) ||
        (fstat(file, &status) == 0 && status.st_nlink == 0)) {
        close(file);
        return false;
    }
    // on file systems without locks, no process removes it either
    file_ = file;
    return true;
}

OutputFile::~OutputFile() {
    if (!kept_) {
        unlink(name.c_str()); // while it is locked
    }
    close(file_);
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

void OutputFile::seek(uint64_t offset) {
    if (lseek(file_, off_t(offset), SEEK_SET) < 0) {
        fail_with_errno("cannot write the index to", name);
    }
}

void OutputFile::become_target() {
    if (fsync(file_) != 0) {
        fail_with_errno("cannot write the index: syncing", name);
    }
    if (rename(name.c_str(), target_.c_str()) != 0) {
        fail_with_errno("cannot write the index: renaming to", target_);
    }
    kept_ = true;
    // The new file is in place and complete. If the directory cannot be synced,
    // its name may not survive a power cut, which is no error of this call.
    auto parent = std::filesystem::path(target_).parent_path();
    const char* directory = parent.empty() ? "." : parent.c_str();
    int handle = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (handle >= 0) {
        (void)!fsync(handle);
        close(handle);
    }
}

} // namespace faiss_ext
