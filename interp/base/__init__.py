"""What every floor stands on: errors, files, results, statistics, devices, memory."""
