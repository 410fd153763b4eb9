#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "kquant/base/error.hpp"

/// One recipe's place in the picture.
struct ChartPoint {
  std::string label;
  double bits_per_weight = 0;
  double kl_divergence = 0,
         kl_error = 0;  ///< nats a token against the reference; error: standard error
  double perplexity = 0;
};

/// Writes an SVG with two panels over bits per weight: KL divergence (logarithmic) and perplexity,
/// the reference model's perplexity as a line. Follows the reader's light or dark colour scheme.
kquant::Result<void> write_chart(const std::filesystem::path& path, const std::string& title,
                                 const std::vector<ChartPoint>& points,
                                 double reference_perplexity);
