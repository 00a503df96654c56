package ecr_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsecr "github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	smithy "github.com/aws/smithy-go"

	"github.com/berthdev/berth/internal/api/ecr"
	"github.com/berthdev/berth/internal/api/iam"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var (
	ctx   = context.Background()
	scope = model.Scope{Account: "000000000000", Region: "us-east-1"}
)

// rig is the API over HTTP with a real registry beneath, and the SDK's client of it.
type rig struct {
	t     *testing.T
	store *mem.Store
	reg   *registry.Registry
	keys  *iam.Authority
	now   time.Time
	*awsecr.Client
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, store: mem.New(store.Schema()), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	t.Cleanup(func() { r.store.Close() })
	var err error
	if r.keys, err = iam.Open(filepath.Join(t.TempDir(), "key"), scope, time.Now); err != nil {
		t.Fatal(err)
	}
	blobs, err := registry.OpenBlobs(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log, now := slog.New(slog.DiscardHandler), func() time.Time { return r.now }
	r.reg = registry.New(registry.Config{Store: r.store, Blobs: blobs, Auth: r.keys, Scope: scope, Now: now, Log: log})
	service := ecr.New(ecr.Config{Store: r.store, Scope: scope, Manifests: r.reg, Layers: r.reg, Tokens: r.keys, Host: "localhost:4566", Now: now, Log: log})
	r.Client = awsecr.NewFromConfig(wiretest.Serve(t, service))
	return r
}

func (r *rig) create(name string) types.Repository {
	r.t.Helper()
	return *wiretest.Must[*awsecr.CreateRepositoryOutput](r.t)(r.CreateRepository(ctx, &awsecr.CreateRepositoryInput{RepositoryName: &name})).Repository
}

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	indexType    = "application/vnd.oci.image.index.v1+json"
)

// manifest is one without layers, whose config is a blob of the repository; n makes its digest its own.
func (r *rig) manifest(repo string, n int) string {
	r.t.Helper()
	config := "{}"
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(config)))
	req := httptest.NewRequest("POST", "/v2/"+repo+"/blobs/uploads/?digest="+digest, strings.NewReader(config))
	token, _ := r.keys.IssueRegistryToken(wire.Caller{}, time.Hour)
	req.SetBasicAuth("AWS", token)
	w := httptest.NewRecorder()
	if r.reg.ServeHTTP(w, req); w.Code != 201 {
		r.t.Fatalf("upload: %d %s", w.Code, w.Body)
	}
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},`+
		`"layers":[],"annotations":{"n":"%d"}}`, manifestType, digest, n)
}

func digestOf(manifest string) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(manifest)))
}

// put stores a manifest under a tag, "" for none, and returns its digest.
func (r *rig) put(repo, tag, manifest string) string {
	r.t.Helper()
	in := &awsecr.PutImageInput{RepositoryName: &repo, ImageManifest: &manifest}
	if tag != "" {
		in.ImageTag = &tag
	}
	return *wiretest.Must[*awsecr.PutImageOutput](r.t)(r.PutImage(ctx, in)).Image.ImageId.ImageDigest
}

func TestRepository(t *testing.T) {
	r := newRig(t)
	made := r.create("team/app")
	if *made.RepositoryArn != "arn:aws:ecr:us-east-1:000000000000:repository/team/app" || *made.RepositoryUri != "localhost:4566/team/app" ||
		*made.RegistryId != scope.Account || !made.CreatedAt.Equal(r.now) || made.ImageTagMutability != types.ImageTagMutabilityMutable ||
		made.EncryptionConfiguration != nil || made.ImageScanningConfiguration.ScanOnPush {
		t.Errorf("made %+v", made)
	}
	for i := range 5 {
		r.create(fmt.Sprint("repo-", i))
	}
	var names []string
	pages := awsecr.NewDescribeRepositoriesPaginator(r.Client, &awsecr.DescribeRepositoriesInput{MaxResults: aws.Int32(4)})
	n := 0
	for ; pages.HasMorePages(); n++ {
		for _, repo := range wiretest.Must[*awsecr.DescribeRepositoriesOutput](t)(pages.NextPage(ctx)).Repositories {
			names = append(names, *repo.RepositoryName)
		}
	}
	if n != 2 || !slices.Equal(names, []string{"repo-0", "repo-1", "repo-2", "repo-3", "repo-4", "team/app"}) {
		t.Errorf("%v on %d pages", names, n)
	}
	_, err := r.DescribeRepositories(ctx, &awsecr.DescribeRepositoriesInput{RepositoryNames: []string{"team/app", "none"}})
	wiretest.Refused(t, err, "RepositoryNotFoundException",
		"The repository with name 'none' does not exist in the registry with id '000000000000'")
	_, err = r.DescribeRepositories(ctx, &awsecr.DescribeRepositoriesInput{RegistryId: aws.String("111111111111")})
	wiretest.Refused(t, err, "AccessDeniedException", "'111111111111'")

	r.put("team/app", "v1", r.manifest("team/app", 1))
	drop := &awsecr.DeleteRepositoryInput{RepositoryName: aws.String("team/app")}
	_, err = r.DeleteRepository(ctx, drop)
	wiretest.Refused(t, err, "RepositoryNotEmptyException", "The repository with name 'team/app' in registry with id '000000000000' cannot be "+
		"deleted because it still contains images")
	drop.Force = true
	gone := wiretest.Must[*awsecr.DeleteRepositoryOutput](t)(r.DeleteRepository(ctx, drop))
	if *gone.Repository.RepositoryArn != *made.RepositoryArn {
		t.Errorf("deleted %+v", gone.Repository)
	}
	r.store.View(func(s store.Reader) {
		for range store.Images.Scan(s, "") {
			t.Error("an image outlived its repository")
		}
		for range store.ImageTags.Scan(s, "") {
			t.Error("a tag outlived its repository")
		}
		for range store.RepositoryBlobs.Scan(s, "") {
			t.Error("a blob's place outlived its repository")
		}
	})
	_, err = r.DeleteRepository(ctx, drop)
	wiretest.Refused(t, err, "RepositoryNotFoundException", "'team/app'")
}

func TestRepositoriesThatAreRefused(t *testing.T) {
	r := newRig(t)
	r.create("taken")
	for name, c := range map[string]struct {
		in         awsecr.CreateRepositoryInput
		code, text string
	}{
		"taken": {awsecr.CreateRepositoryInput{RepositoryName: aws.String("taken")}, "RepositoryAlreadyExistsException",
			"The repository with name 'taken' already exists in the registry with id '000000000000'"},
		"short": {awsecr.CreateRepositoryInput{RepositoryName: aws.String("a")}, "InvalidParameterException",
			"Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must have length greater than or equal to 2'"},
		"long": {awsecr.CreateRepositoryInput{RepositoryName: aws.String(strings.Repeat("a", 257))}, "InvalidParameterException", "256"},
		"letters": {awsecr.CreateRepositoryInput{RepositoryName: aws.String("Team/App")}, "InvalidParameterException",
			"must satisfy regular expression '(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*'"},
		"mutability": {awsecr.CreateRepositoryInput{RepositoryName: aws.String("new"), ImageTagMutability: "SOMETIMES"}, "InvalidParameterException",
			"Member must satisfy enum value set: [IMMUTABLE, MUTABLE, MUTABLE_WITH_EXCLUSION, IMMUTABLE_WITH_EXCLUSION]"},
		"exclusion": {awsecr.CreateRepositoryInput{RepositoryName: aws.String("new"), ImageTagMutability: "IMMUTABLE_WITH_EXCLUSION"},
			"InvalidParameterException", "imageTagMutabilityExclusionFilters must be given with the tag mutability IMMUTABLE_WITH_EXCLUSION"},
		"KMS": {awsecr.CreateRepositoryInput{RepositoryName: aws.String("new"),
			EncryptionConfiguration: &types.EncryptionConfiguration{EncryptionType: types.EncryptionTypeKms}}, "InvalidParameterException",
			"This Berth has no keys for the encryption type KMS"},
		"scanning": {awsecr.CreateRepositoryInput{RepositoryName: aws.String("new"),
			ImageScanningConfiguration: &types.ImageScanningConfiguration{ScanOnPush: true}},
			"InvalidParameterException", "Berth does not scan images yet: create the repository with scanOnPush=false"},
		"tag": {awsecr.CreateRepositoryInput{RepositoryName: aws.String("new"), Tags: []types.Tag{{Key: aws.String(""), Value: aws.String("x")}}},
			"InvalidTagParameterException", "key"},
	} {
		_, err := r.CreateRepository(ctx, &c.in)
		t.Run(name, func(t *testing.T) { wiretest.Refused(t, err, c.code, c.text) })
	}
	if got := wiretest.Must[*awsecr.DescribeRepositoriesOutput](t)(r.DescribeRepositories(ctx, nil)); len(got.Repositories) != 1 {
		t.Errorf("refused and made: %+v", got.Repositories)
	}
}

func TestTagsOfRepositories(t *testing.T) {
	r := newRig(t)
	tag := func(k, v string) types.Tag { return types.Tag{Key: &k, Value: &v} }
	arn := wiretest.Must[*awsecr.CreateRepositoryOutput](t)(r.CreateRepository(ctx, &awsecr.CreateRepositoryInput{RepositoryName: aws.String("app"),
		Tags: []types.Tag{tag("made", "here")}})).Repository.RepositoryArn
	set := func(tags ...types.Tag) error {
		return wiretest.Error(r.TagResource(ctx, &awsecr.TagResourceInput{ResourceArn: arn, Tags: tags}))
	}
	if err := set(tag("a", "1"), tag("made", "there")); err != nil {
		t.Fatal(err)
	}
	wiretest.Must[*awsecr.UntagResourceOutput](t)(r.UntagResource(ctx, &awsecr.UntagResourceInput{ResourceArn: arn, TagKeys: []string{"a", "none"}}))
	got := wiretest.Must[*awsecr.ListTagsForResourceOutput](t)(r.ListTagsForResource(ctx, &awsecr.ListTagsForResourceInput{ResourceArn: arn})).Tags
	if len(got) != 1 || *got[0].Key != "made" || *got[0].Value != "there" {
		t.Errorf("tags %+v", got)
	}
	wiretest.Refused(t, set(tag("aws:x", "")), "InvalidTagParameterException", "aws:")
	var many []types.Tag
	for i := range 50 {
		many = append(many, tag(fmt.Sprint("k", i), ""))
	}
	wiretest.Refused(t, set(many...), "TooManyTagsException", "50")
	for _, bad := range []string{"x", "arn:aws:ecr:us-east-1:000000000000:repository/", "arn:aws:s3:::b"} {
		_, err := r.ListTagsForResource(ctx, &awsecr.ListTagsForResourceInput{ResourceArn: &bad})
		wiretest.Refused(t, err, "InvalidParameterException", "")
	}
}

func TestImages(t *testing.T) {
	r := newRig(t)
	r.create("app")
	repo := aws.String("app")
	one, two := r.manifest("app", 1), r.manifest("app", 2)
	d1 := r.put("app", "v1", one)
	r.put("app", "latest", one)
	r.now = r.now.Add(time.Hour)
	d2 := r.put("app", "", two)
	if d1 != digestOf(one) || d2 != digestOf(two) {
		t.Errorf("digests %s %s", d1, d2)
	}
	_, err := r.PutImage(ctx, &awsecr.PutImageInput{RepositoryName: repo, ImageManifest: &one, ImageTag: aws.String("v1")})
	wiretest.Refused(t, err, "ImageAlreadyExistsException",
		"Image with digest '"+d1+"' and tag 'v1' already exists in the repository with name 'app' in registry with id '000000000000'")

	list := func(status types.TagStatus) (all []string) {
		in := &awsecr.ListImagesInput{RepositoryName: repo, MaxResults: aws.Int32(2)}
		if status != "" {
			in.Filter = &types.ListImagesFilter{TagStatus: status}
		}
		for pages := awsecr.NewListImagesPaginator(r.Client, in); pages.HasMorePages(); {
			for _, id := range wiretest.Must[*awsecr.ListImagesOutput](t)(pages.NextPage(ctx)).ImageIds {
				all = append(all, aws.ToString(id.ImageTag)+"@"+*id.ImageDigest)
			}
		}
		slices.Sort(all)
		return all
	}
	for status, want := range map[types.TagStatus][]string{
		"":                      {"@" + d2, "latest@" + d1, "v1@" + d1},
		types.TagStatusTagged:   {"latest@" + d1, "v1@" + d1},
		types.TagStatusUntagged: {"@" + d2},
	} {
		if got := list(status); !slices.Equal(got, want) {
			t.Errorf("images %s: %v", status, got)
		}
	}
	details := wiretest.Must[*awsecr.DescribeImagesOutput](t)(r.DescribeImages(ctx, &awsecr.DescribeImagesInput{RepositoryName: repo,
		ImageIds: []types.ImageIdentifier{{ImageTag: aws.String("latest")}, {ImageDigest: &d2}}})).ImageDetails
	if len(details) != 2 || *details[0].ImageDigest != d1 || len(details[0].ImageTags) != 2 || *details[0].ImageManifestMediaType != manifestType ||
		!details[1].ImagePushedAt.Equal(r.now) || details[1].ImageTags != nil {
		t.Errorf("details %+v", details)
	}
	_, err = r.DescribeImages(ctx, &awsecr.DescribeImagesInput{RepositoryName: repo, ImageIds: []types.ImageIdentifier{{ImageTag: aws.String("v9")}}})
	wiretest.Refused(t, err, "ImageNotFoundException", "The image with imageId {imageDigest:'null', imageTag:'v9'} does not exist within the repository "+
		"with name 'app' in the registry with id '000000000000'")

	got := wiretest.Must[*awsecr.BatchGetImageOutput](t)(r.BatchGetImage(ctx, &awsecr.BatchGetImageInput{RepositoryName: repo, ImageIds: []types.ImageIdentifier{
		{ImageTag: aws.String("v1")}, {ImageTag: aws.String("v9")}, {}, {ImageDigest: aws.String("nonsense")}, {ImageTag: aws.String("v1"), ImageDigest: &d2}}}))
	if len(got.Images) != 1 || *got.Images[0].ImageManifest != one || *got.Images[0].ImageId.ImageTag != "v1" {
		t.Errorf("images %+v", got.Images)
	}
	var failures []string
	for _, f := range got.Failures {
		failures = append(failures, string(f.FailureCode)+": "+*f.FailureReason)
	}
	if want := []string{"ImageNotFound: Requested image not found",
		"MissingDigestAndTag: Invalid request parameters: both tag and digest cannot be null",
		"InvalidImageDigest: Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'",
		"ImageTagDoesNotMatchDigest: Image tag does not match digest"}; !slices.Equal(failures, want) {
		t.Errorf("failures %q", failures)
	}
	other := wiretest.Must[*awsecr.BatchGetImageOutput](t)(r.BatchGetImage(ctx, &awsecr.BatchGetImageInput{RepositoryName: repo,
		ImageIds: []types.ImageIdentifier{{ImageDigest: &d1}}, AcceptedMediaTypes: []string{indexType}}))
	if len(other.Images) != 0 || len(other.Failures) != 1 {
		t.Errorf("a media type that is not accepted: %+v", other)
	}
}

func TestImagesAreDeleted(t *testing.T) {
	r := newRig(t)
	r.create("app")
	repo := aws.String("app")
	remove := func(ids ...types.ImageIdentifier) (gone, failed []string) {
		t.Helper()
		out := wiretest.Must[*awsecr.BatchDeleteImageOutput](t)(r.BatchDeleteImage(ctx, &awsecr.BatchDeleteImageInput{RepositoryName: repo, ImageIds: ids}))
		for _, id := range out.ImageIds {
			gone = append(gone, aws.ToString(id.ImageTag)+"@"+*id.ImageDigest)
		}
		for _, f := range out.Failures {
			failed = append(failed, string(f.FailureCode))
		}
		slices.Sort(gone)
		return gone, failed
	}
	expect := func(what string, gone, failed, wantGone, wantFailed []string) {
		t.Helper()
		if !slices.Equal(gone, wantGone) || !slices.Equal(failed, wantFailed) {
			t.Errorf("%s: deleted %v, refused %v, want %v and %v", what, gone, failed, wantGone, wantFailed)
		}
	}
	byTag := func(tag string) types.ImageIdentifier { return types.ImageIdentifier{ImageTag: &tag} }
	byDigest := func(d string) types.ImageIdentifier { return types.ImageIdentifier{ImageDigest: &d} }

	one := r.manifest("app", 1)
	d := r.put("app", "a", one)
	r.put("app", "b", one)
	gone, failed := remove(byTag("a"), byTag("none"))
	expect("one of two tags", gone, failed, []string{"a@" + d}, []string{"ImageNotFound"})
	if left := wiretest.Must[*awsecr.DescribeImagesOutput](t)(r.DescribeImages(ctx, &awsecr.DescribeImagesInput{RepositoryName: repo})).ImageDetails; len(left) != 1 ||
		!slices.Equal(left[0].ImageTags, []string{"b"}) {
		t.Errorf("left %+v", left)
	}
	r.put("app", "c", one)
	gone, failed = remove(byDigest(d))
	expect("by its digest", gone, failed, []string{"b@" + d, "c@" + d}, nil)

	r.put("app", "a", one)
	gone, failed = remove(byTag("a"), byDigest(d)) // both mean the same
	expect("twice in one request", gone, failed, []string{"a@" + d}, []string{"ImageNotFound"})

	// An image that an index needs stays until the index is gone.
	d = r.put("app", "", one)
	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, indexType, manifestType, d, len(one))
	di := r.put("app", "all", index)
	gone, failed = remove(byDigest(d))
	expect("a child", gone, failed, nil, []string{"ImageReferencedByManifestList"})
	gone, failed = remove(byDigest(di), byDigest(d))
	expect("the index and then its child", gone, failed, []string{"@" + d, "all@" + di}, nil)

	_, err := r.BatchDeleteImage(ctx, &awsecr.BatchDeleteImageInput{RepositoryName: repo, ImageIds: make([]types.ImageIdentifier, 101)})
	wiretest.Refused(t, err, "InvalidParameterException", "1 to 100")
}

func TestImagesThatAreRefused(t *testing.T) {
	r := newRig(t)
	r.create("app")
	repo, one := aws.String("app"), r.manifest("app", 1)
	missing := strings.Replace(one, `"layers":[]`, `"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:`+
		strings.Repeat("ab", 32)+`","size":7}]`, 1)
	for name, c := range map[string]struct {
		in         awsecr.PutImageInput
		code, text string
	}{
		"no repository":  {awsecr.PutImageInput{RepositoryName: aws.String("none"), ImageManifest: &one}, "RepositoryNotFoundException", "'none'"},
		"not a manifest": {awsecr.PutImageInput{RepositoryName: repo, ImageManifest: aws.String("{")}, "InvalidParameterException", ""},
		"another digest": {awsecr.PutImageInput{RepositoryName: repo, ImageManifest: &one, ImageDigest: aws.String("sha256:00")},
			"ImageDigestDoesNotMatchException", digestOf(one)},
		"a layer is missing": {awsecr.PutImageInput{RepositoryName: repo, ImageManifest: &missing}, "LayersNotFoundException", "abab"},
		"tag":                {awsecr.PutImageInput{RepositoryName: repo, ImageManifest: &one, ImageTag: aws.String("a b")}, "InvalidParameterException", ""},
		"empty":              {awsecr.PutImageInput{RepositoryName: repo, ImageManifest: aws.String("")}, "InvalidParameterException", ""},
	} {
		_, err := r.PutImage(ctx, &c.in)
		t.Run(name, func(t *testing.T) { wiretest.Refused(t, err, c.code, c.text) })
	}
	wiretest.Must[*awsecr.PutImageTagMutabilityOutput](t)(r.PutImageTagMutability(ctx, &awsecr.PutImageTagMutabilityInput{RepositoryName: repo,
		ImageTagMutability: types.ImageTagMutabilityImmutable}))
	r.put("app", "v1", one)
	_, err := r.PutImage(ctx, &awsecr.PutImageInput{RepositoryName: repo, ImageManifest: aws.String(r.manifest("app", 2)), ImageTag: aws.String("v1")})
	wiretest.Refused(t, err, "ImageTagAlreadyExistsException", "The image tag 'v1' already exists in the 'app' repository and cannot be overwritten "+
		"because the repository is immutable.")
	wiretest.Must[*awsecr.PutImageTagMutabilityOutput](t)(r.PutImageTagMutability(ctx, &awsecr.PutImageTagMutabilityInput{RepositoryName: repo,
		ImageTagMutability: types.ImageTagMutabilityMutable}))
	r.put("app", "v1", r.manifest("app", 2))
}

// TestTokens: the password of GetAuthorizationToken is good for twelve hours, and for the registry alone.
func TestTokens(t *testing.T) {
	r := newRig(t)
	out := wiretest.Must[*awsecr.GetAuthorizationTokenOutput](t)(r.GetAuthorizationToken(ctx, nil)).AuthorizationData
	if len(out) != 1 || *out[0].ProxyEndpoint != "http://localhost:4566" || out[0].ExpiresAt.Before(time.Now().Add(11*time.Hour)) ||
		out[0].ExpiresAt.After(time.Now().Add(13*time.Hour)) {
		t.Errorf("%+v", out)
	}
}

// TestEveryOperationNeedsItsParameters: an empty request is refused by name.
func TestEveryOperationNeedsItsParameters(t *testing.T) {
	r := newRig(t)
	empty := aws.String("")
	for name, err := range map[string]error{
		"DescribeImages":        wiretest.Error(r.DescribeImages(ctx, &awsecr.DescribeImagesInput{RepositoryName: empty})),
		"ListImages":            wiretest.Error(r.ListImages(ctx, &awsecr.ListImagesInput{RepositoryName: empty})),
		"BatchGetImage":         wiretest.Error(r.BatchGetImage(ctx, &awsecr.BatchGetImageInput{RepositoryName: empty, ImageIds: []types.ImageIdentifier{}})),
		"BatchDeleteImage":      wiretest.Error(r.BatchDeleteImage(ctx, &awsecr.BatchDeleteImageInput{RepositoryName: empty, ImageIds: []types.ImageIdentifier{{}}})),
		"PutImage":              wiretest.Error(r.PutImage(ctx, &awsecr.PutImageInput{RepositoryName: empty, ImageManifest: empty})),
		"PutImageTagMutability": wiretest.Error(r.PutImageTagMutability(ctx, &awsecr.PutImageTagMutabilityInput{RepositoryName: empty, ImageTagMutability: "X"})),
		"DeleteRepository":      wiretest.Error(r.DeleteRepository(ctx, &awsecr.DeleteRepositoryInput{RepositoryName: empty})),
		"TagResource":           wiretest.Error(r.TagResource(ctx, &awsecr.TagResourceInput{ResourceArn: empty, Tags: []types.Tag{}})),
	} {
		if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "InvalidParameterException" {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.create("app")
	for _, in := range []*awsecr.DescribeRepositoriesInput{{MaxResults: aws.Int32(0)}, {MaxResults: aws.Int32(1001)}, {NextToken: aws.String("%")}} {
		wiretest.Refused(t, wiretest.Error(r.DescribeRepositories(ctx, in)), "InvalidParameterException", "")
	}
	if reflect.TypeOf(r.Client).NumMethod() < 40 {
		t.Error("the SDK's client lost its operations")
	}
}
