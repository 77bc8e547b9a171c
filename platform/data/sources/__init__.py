"""Where examples come from: files, folders, tables, torchvision, a callable."""
