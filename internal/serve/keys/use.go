package keys

import (
	"context"
	"fmt"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Usable refuses a key that may not be used now.
func (r *Ring) Usable(k *model.KMSKey) error {
	switch StateOf(k) {
	case Disabled:
		return model.Errorf("DisabledException", "%s is disabled.", r.ARN(k.ID))
	case PendingDeletion:
		return model.Errorf("KMSInvalidStateException", "%s is pending deletion.", r.ARN(k.ID))
	}
	return nil
}

// errCiphertext has no text with AWS.
func errCiphertext() error { return &model.Error{Code: "InvalidCiphertextException"} }

// unwrapped is the plain material of that number.
func (r *Ring) unwrapped(ctx context.Context, k *model.KMSKey, number int) ([]byte, error) {
	if number < 0 || number >= len(k.Materials) {
		return nil, errCiphertext()
	}
	name := r.materialName(k.ID, number)
	r.mu.Lock()
	plain, ok := r.plain[name]
	r.mu.Unlock()
	if ok {
		return plain, nil
	}
	master, err := r.Master.wrapping(ctx)
	if err != nil {
		return nil, err
	}
	plain, err = unwrap(master, k.Materials[number].Sealed, name)
	if err != nil {
		return nil, fmt.Errorf("the material of %s is not what was stored: %w", r.ARN(k.ID), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.plain[name] = plain
	return plain, nil
}

// Encrypt encrypts under a key, which keyID names by id, ARN, alias or alias ARN. Who decrypts must know the context.
func (r *Ring) Encrypt(ctx context.Context, keyID string, plain []byte, context map[string]string) (sealed []byte, keyARN string, err error) {
	k, err := r.Lookup(ctx, keyID)
	if err != nil {
		return nil, "", err
	}
	if err := r.Usable(k); err != nil {
		return nil, "", err
	}
	number := len(k.Materials) - 1
	material, err := r.unwrapped(ctx, k, number)
	if err != nil {
		return nil, "", err
	}
	sealed, err = seal(k.ID, number, material, plain, context)
	return sealed, r.ARN(k.ID), err
}

// GenerateDataKey makes n random bytes and encrypts them as Encrypt does.
func (r *Ring) GenerateDataKey(ctx context.Context, keyID string, context map[string]string, n int) (plain, sealed []byte, keyARN string, err error) {
	plain = random(n)
	sealed, keyARN, err = r.Encrypt(ctx, keyID, plain, context)
	if err != nil {
		return nil, nil, "", err
	}
	return plain, sealed, keyARN, nil
}

// KeyOf is the ARN of the key that a ciphertext says it is under; "" for what is no ciphertext.
func (r *Ring) KeyOf(sealed []byte) string {
	id, _, err := head(sealed)
	if err != nil {
		return ""
	}
	return r.ARN(id)
}

// Decrypt decrypts what Encrypt or GenerateDataKey made with the same context.
func (r *Ring) Decrypt(ctx context.Context, sealed []byte, context map[string]string) (plain []byte, keyARN string, err error) {
	id, number, err := head(sealed)
	if err != nil {
		return nil, "", errCiphertext()
	}
	var k *model.KMSKey
	r.Store.View(func(tx store.Reader) { k, _ = store.KMSKeys.Get(tx, id) })
	if k == nil {
		return nil, "", errCiphertext()
	}
	if err := r.Usable(k); err != nil {
		return nil, "", err
	}
	material, err := r.unwrapped(ctx, k, number)
	if err != nil {
		return nil, "", err
	}
	if plain, err = open(material, sealed, context); err != nil {
		return nil, "", errCiphertext()
	}
	return plain, r.ARN(k.ID), nil
}

// Describe tells what users of a key may know.
func (r *Ring) Describe(keyID string) (KeyInfo, error) {
	k, err := r.Lookup(context.Background(), keyID)
	if err != nil {
		return KeyInfo{}, err
	}
	return KeyInfo{ID: k.ID, ARN: r.ARN(k.ID), Service: k.Service, State: StateOf(k), Policy: k.Policy}, nil
}
