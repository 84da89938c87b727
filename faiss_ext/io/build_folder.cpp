#include <faiss_ext/io/build_folder.h>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/io/regular_files.h>
#include <faiss_ext/memory/file_fault.h>

namespace faiss_ext {

namespace {

namespace fs = std::filesystem;

constexpr const char* kFirstLine = "faiss_ext build 1";

std::string folder_of(const std::string& target) {
    return target + ".build";
}

/// Whether a build makes files of this name.
bool is_of_build(const std::string& name) {
    return name == "build.txt" || name == "lock" || name == "rows" ||
           name == "trained.scann" || name.rfind("run-", 0) == 0 ||
           name.rfind("faiss_ext-", 0) == 0; // of an OutputFile
}

} // namespace

uint64_t free_bytes(const std::string& folder) {
    struct statvfs status;
    if (statvfs(folder.c_str(), &status) != 0) {
        fail_with_errno("cannot write to", folder);
    }
    return uint64_t(status.f_bavail) * status.f_frsize;
}

uint64_t bytes_kept(const std::string& target) {
    uint64_t total = 0;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder_of(target), error)) {
        const uint64_t size = fs::file_size(entry.path(), error);
        total += error ? 0 : size;
    }
    return total;
}

BuildFolder::BuildFolder(const std::string& target, const Identity& identity)
        : path_(folder_of(target)) {
    if (mkdir(path_.c_str(), 0777) != 0 && errno != EEXIST) {
        fail_with_errno("cannot make the folder", path_);
    }
    lock();
    try {
        std::string text = kFirstLine;
        for (const auto& [key, value] : identity) {
            text.append("\n").append(key).append(" ").append(value);
        }
        check(text + "\n");
    } catch (...) {
        close(lock_);
        throw;
    }
}

BuildFolder::~BuildFolder() {
    close(lock_);
}

void BuildFolder::lock() {
    const std::string name = path_ + "/lock";
    lock_ = open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock_ < 0) {
        fail_with_errno("cannot write", name);
    }
    if (flock(lock_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        close(lock_);
        FAISS_THROW_FMT("%s: another process is building there", path_.c_str());
    }
}

/// @param wanted  text of build.txt
void BuildFolder::check(const std::string& wanted) const {
    const std::string name = path_ + "/build.txt";
    if (!fs::exists(name)) {
        for (const auto& entry : fs::directory_iterator(path_)) {
            FAISS_THROW_IF_NOT_FMT(
                    is_of_build(entry.path().filename().string()),
                    "%s: it holds files of something else (%s)",
                    path_.c_str(),
                    entry.path().filename().c_str());
        }
        OutputFile file(name);
        if (file(wanted.data(), 1, wanted.size()) != wanted.size()) {
            fail_with_errno("cannot write", name);
        }
        file.become_target();
        return;
    }
    std::ifstream file(name);
    std::istringstream lines(wanted);
    std::string found, line;
    while (std::getline(lines, line)) {
        FAISS_THROW_IF_NOT_FMT(
                std::getline(file, found) && found == line,
                "%s: holds another build, of '%s', not of '%s' (remove the "
                "folder, or write to another path)",
                path_.c_str(),
                found.c_str(),
                line.c_str());
    }
}

std::string BuildFolder::run(size_t i) const {
    char name[32];
    snprintf(name, sizeof(name), "/run-%05zu", i);
    return path_ + name;
}

void BuildFolder::remove() {
    std::error_code error;
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(path_, error)) {
        if (is_of_build(entry.path().filename().string())) {
            files.push_back(entry.path());
        }
    }
    // what says which build it is comes last
    for (const fs::path& file : files) {
        if (file.filename() != "build.txt") {
            fs::remove(file, error);
        }
    }
    fs::remove(path_ + "/build.txt", error);
    fs::remove(path_, error); // only if it is empty
}

} // namespace faiss_ext
