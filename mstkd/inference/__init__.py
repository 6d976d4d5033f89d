"""Models that people use: loaded, asked, calibrated, compared and exported."""
