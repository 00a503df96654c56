package store

import "github.com/berthdev/berth/internal/model"

// ConsoleSessions are of internal/console.
var ConsoleSessions = table[model.ConsoleSession]("console-sessions")
