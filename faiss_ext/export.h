/* What the shared library exports; everything else is hidden. */

#pragma once

#define FAISS_EXT_API __attribute__((visibility("default")))
