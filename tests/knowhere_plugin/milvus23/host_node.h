/*
 * The plug-in's node as the host drives it: a request becomes a config, then
 * the call. Shared by the tests here.
 */

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fake_host.h"

namespace fake_host {

/// What a call answered: status 0 or the error's text as its user reads it.
struct Answer {
    abi::Status status = abi::Status::success;
    std::string message;
    int64_t rows = 0;
    int64_t k = 0;
    std::vector<int64_t> ids;
    std::vector<float> distance;
    std::vector<size_t> lims;
    std::vector<float> rows_found;
    /// members of the config, as the host finds them
    int32_t k_read = 0;
    std::optional<float> radius_read;

    bool ok() const {
        return status == abi::Status::success;
    }
};

/// Borrowed rows.
struct Rows {
    int64_t n;
    int64_t dim;
    const float* x;
};

class HostNode {
 public:
    /// A node of what is registered as "SCANN".
    HostNode();

    abi::Status build(const Rows& rows, Request request);
    Answer search(
            const Rows& queries,
            Request request,
            const std::vector<uint8_t>& bits) const;
    /// No row filtered out: all bits 0, as the host asks.
    Answer search(const Rows& queries, Request request) const;
    Answer range(const Rows& queries, Request request) const;
    Answer vectors(const std::vector<int64_t>& ids) const;
    /// The blob "SCANN".
    std::vector<uint8_t> saved() const;
    /// The bytes are overwritten after the call, as the host's are.
    abi::Status load(std::vector<uint8_t> bytes, const char* name = "SCANN");

    abi::IndexNode& node() const {
        return *index_.node();
    }

 private:
    Answer hits(
            abi::Phase phase,
            const Rows& queries,
            Request request,
            const std::vector<uint8_t>& bits) const;

    abi::Index index_;
};

/// Borrowing.
std::unique_ptr<abi::DataSet> data_of(const Rows& rows);

} // namespace fake_host
