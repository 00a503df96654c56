package model

import "time"

// Level is the feature level of this version: it rises by one with each release that stores something which the one before would drop
// or misread. What is new at a level is written only once Settings.Level has reached it.
const Level = 2

// LevelViews is the level from which on each machine's view of targets and listeners is stored: before, the last one that said something won.
const LevelViews = 2

// LevelAuthorities is the level from which on servers say whom they believe: without that, the authority of several cannot be changed.
const LevelAuthorities = 2

// Server is a machine that votes on the state. It writes what it says of itself when it joins and starts; the leader writes it.
type Server struct {
	ID       string // 32 hexadecimal digits, as in its certificate; the name of its member in etcd
	Name     string // its host's name, for people
	Address  string // host:port of its cluster port (4567), at which the other machines reach it
	Version  string // of Berth
	Level    int    // the feature level of that version
	KeyHash  string // hexadecimal SHA-256 of its public key (SPKI)
	JoinedAt time.Time
	// Trusts names the newest authority that its etcd believes, Authority the one that signed its certificates, as Node.Authority does. Both
	// are told by the server; the leader writes them.
	Trusts, Authority string `json:",omitempty"`
}

// Key is the server's id.
func (s *Server) Key() string { return s.ID }

// Settings is what holds for the whole cluster: one row. The leader writes it.
type Settings struct {
	ClusterID string   // as in certificates: berth://<cluster id>/…
	CA        []string // PEM of the certificates that this cluster trusts
	Encrypt   bool     // traffic between tasks of different machines goes through WireGuard
	VPC       []string // address ranges of the VPC, the first one the oldest
	// ElectionMs is how long followers wait for a silent leader before they elect another, in milliseconds; 0: 1000.
	ElectionMs int
	Level      int // what all servers can read: the least of their levels; never falls
	// Incarnation names this life of the state: a restored backup gets a new one, so that nodes keep tasks which the old state does not know.
	Incarnation string
	// Unconfirmed: the state was put back from a backup, and nodes keep tasks that it does not know until people say that it is right.
	Unconfirmed bool `json:",omitempty"`
}

// SettingsKey is the key of the one row.
const SettingsKey = "cluster"

// Key is SettingsKey.
func (s *Settings) Key() string { return SettingsKey }
