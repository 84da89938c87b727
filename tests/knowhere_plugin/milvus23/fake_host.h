/*
 * What the plug-in sees of Milvus 2.3.5: the factory's two functions and two
 * tables under their own names, and requests as the host makes them of JSON.
 */

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>

#include <knowhere_plugin/milvus23/abi.h>

namespace fake_host {

namespace abi = knowhere_plugin::milvus23::abi;

/// name -> creator; "SCANN" until the plug-in comes: one that says "stock"
std::map<std::string, abi::Creator>& registered();

/// A value of a request, as JSON has it.
using Value = std::variant<int64_t, double, bool, std::string>;
/// So that {"nprobe", 8} and {"nprobe", "8"} mean what they say.
struct Json : Value {
    Json(int value) : Value(int64_t(value)) {}
    Json(int64_t value) : Value(value) {}
    Json(double value) : Value(value) {}
    Json(bool value) : Value(value) {}
    Json(const char* value) : Value(std::string(value)) {}
};
using Request = std::map<std::string, Json>;

/** Checks a request and writes its values into the config by the rules of
 * Knowhere v2.2.3: strings of numbers and "true", "false" are converted, all
 * other types must fit, unknown keys are passed over.
 * @return empty, or the host's error */
std::string fill(abi::Config& config, Request request, abi::Phase phase);

} // namespace fake_host
