package kms

import (
	"context"
	"crypto/rand"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/berthdev/berth/internal/model"
)

// What Encrypt and Decrypt take, bytes.
const maxPlain, maxCipher = 4096, 6144

const symmetric = types.EncryptionAlgorithmSpecSymmetricDefault

// blob refuses what is missing or too long.
func blob(member string, b []byte, most int) error {
	switch {
	case len(b) == 0:
		return invalid("1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length greater than or equal to 1", member)
	case len(b) > most:
		return tooLong(member, most)
	}
	return nil
}

func algorithm(asked types.EncryptionAlgorithmSpec) error {
	if asked != "" && asked != symmetric {
		return model.Errorf("InvalidKeyUsageException", "The key's encryption algorithm is %s, not %.50s", symmetric, asked)
	}
	return nil
}

// dry ends a request that only asks whether it would succeed.
func dry(asked *bool) error {
	if asked != nil && *asked {
		return model.Errorf("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
	}
	return nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func noEnclave(r *types.RecipientInfo) error {
	if r != nil {
		return model.Errorf("UnsupportedOperationException", "Berth's KMS knows no enclaves: leave out Recipient")
	}
	return nil
}

func (a *api) encrypt(ctx context.Context, in *sdk.EncryptInput) (*sdk.EncryptOutput, error) {
	if err := first(required("keyId", in.KeyId), blob("plaintext", in.Plaintext, maxPlain), algorithm(in.EncryptionAlgorithm)); err != nil {
		return nil, err
	}
	sealed, arn, err := a.Ring.Encrypt(ctx, *in.KeyId, in.Plaintext, in.EncryptionContext)
	if err = first(err, dry(in.DryRun)); err != nil {
		return nil, err
	}
	return &sdk.EncryptOutput{CiphertextBlob: sealed, KeyId: &arn, EncryptionAlgorithm: symmetric}, nil
}

// opened decrypts, under the key that the request names if it names one.
func (a *api) opened(ctx context.Context, sealed []byte, keyID *string, context map[string]string) (plain []byte, arn string, err error) {
	if keyID != nil {
		k, err := a.find(ctx, keyID)
		if err != nil {
			return nil, "", err
		}
		if of := a.Ring.KeyOf(sealed); of != "" && of != a.Ring.ARN(k.ID) {
			return nil, "", model.Errorf("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
		}
	}
	return a.Ring.Decrypt(ctx, sealed, context)
}

func (a *api) decrypt(ctx context.Context, in *sdk.DecryptInput) (*sdk.DecryptOutput, error) {
	if err := first(blob("ciphertextBlob", in.CiphertextBlob, maxCipher), algorithm(in.EncryptionAlgorithm), noEnclave(in.Recipient)); err != nil {
		return nil, err
	}
	plain, arn, err := a.opened(ctx, in.CiphertextBlob, in.KeyId, in.EncryptionContext)
	if err = first(err, dry(in.DryRun)); err != nil {
		return nil, err
	}
	return &sdk.DecryptOutput{Plaintext: plain, KeyId: &arn, EncryptionAlgorithm: symmetric}, nil
}

func (a *api) reEncrypt(ctx context.Context, in *sdk.ReEncryptInput) (*sdk.ReEncryptOutput, error) {
	if err := first(blob("ciphertextBlob", in.CiphertextBlob, maxCipher), required("destinationKeyId", in.DestinationKeyId),
		algorithm(in.SourceEncryptionAlgorithm), algorithm(in.DestinationEncryptionAlgorithm)); err != nil {
		return nil, err
	}
	plain, from, err := a.opened(ctx, in.CiphertextBlob, in.SourceKeyId, in.SourceEncryptionContext)
	if err != nil {
		return nil, err
	}
	sealed, to, err := a.Ring.Encrypt(ctx, *in.DestinationKeyId, plain, in.DestinationEncryptionContext)
	if err = first(err, dry(in.DryRun)); err != nil {
		return nil, err
	}
	return &sdk.ReEncryptOutput{CiphertextBlob: sealed, KeyId: &to, SourceKeyId: &from, SourceEncryptionAlgorithm: symmetric,
		DestinationEncryptionAlgorithm: symmetric}, nil
}

const maxRandom = 1024

// size is that of a data key, bytes.
func size(spec types.DataKeySpec, number *int32) (int, error) {
	switch {
	case (spec == "") == (number == nil):
		return 0, invalid("Please specify either number of bytes or key spec.")
	case spec == types.DataKeySpecAes256:
		return 32, nil
	case spec == types.DataKeySpecAes128:
		return 16, nil
	case spec != "":
		return 0, invalid("1 validation error detected: Value '%.50s' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: "+
			"[AES_256, AES_128]", spec)
	}
	return int(*number), between("numberOfBytes", number, 1, maxRandom)
}

func (a *api) generateDataKey(ctx context.Context, in *sdk.GenerateDataKeyInput) (*sdk.GenerateDataKeyOutput, error) {
	n, err := size(in.KeySpec, in.NumberOfBytes)
	if err = first(required("keyId", in.KeyId), err, noEnclave(in.Recipient)); err != nil {
		return nil, err
	}
	plain, sealed, arn, err := a.Ring.GenerateDataKey(ctx, *in.KeyId, in.EncryptionContext, n)
	if err = first(err, dry(in.DryRun)); err != nil {
		return nil, err
	}
	return &sdk.GenerateDataKeyOutput{Plaintext: plain, CiphertextBlob: sealed, KeyId: &arn}, nil
}

func (a *api) generateDataKeyWithoutPlaintext(ctx context.Context, in *sdk.GenerateDataKeyWithoutPlaintextInput) (*sdk.GenerateDataKeyWithoutPlaintextOutput, error) {
	n, err := size(in.KeySpec, in.NumberOfBytes)
	if err = first(required("keyId", in.KeyId), err); err != nil {
		return nil, err
	}
	_, sealed, arn, err := a.Ring.GenerateDataKey(ctx, *in.KeyId, in.EncryptionContext, n)
	if err = first(err, dry(in.DryRun)); err != nil {
		return nil, err
	}
	return &sdk.GenerateDataKeyWithoutPlaintextOutput{CiphertextBlob: sealed, KeyId: &arn}, nil
}

func (a *api) generateRandom(_ context.Context, in *sdk.GenerateRandomInput) (*sdk.GenerateRandomOutput, error) {
	if in.CustomKeyStoreId != nil {
		return nil, model.Errorf("UnsupportedOperationException", "Berth's KMS has no custom key stores")
	}
	if err := first(noEnclave(in.Recipient), between("numberOfBytes", in.NumberOfBytes, 1, maxRandom)); err != nil {
		return nil, err
	}
	n := 32
	if in.NumberOfBytes != nil {
		n = int(*in.NumberOfBytes)
	}
	b := make([]byte, n)
	rand.Read(b) // never fails
	return &sdk.GenerateRandomOutput{Plaintext: b}, nil
}
