/*
 * What help() shows. The line before "--" is the signature that
 * inspect.signature() reads; the examples are run by tests/python/test_docs.py
 * after those of faiss_ext.__doc__, which make `index` and `x`.
 */

#pragma once

#include "docstrings_build.h"
#include "docstrings_knowhere.h"
#include "docstrings_lists.h"
#include "docstrings_maintenance.h"
#include "docstrings_module.h"
#include "docstrings_properties.h"
#include "docstrings_search.h"
#include "docstrings_selectors.h"
