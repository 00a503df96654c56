package s3

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"strings"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
)

// ARN is that of a bucket ("bucket") or an object ("bucket/name").
func ARN(what string) string { return "arn:" + model.Partition + ":s3:::" + what }

// sub is an action on a part of a bucket or an object that the query names: for GET, PUT and DELETE.
type sub struct{ get, put, del string }

var ofBucket = map[string]sub{
	"accelerate": {"GetAccelerateConfiguration", "PutAccelerateConfiguration", ""}, "acl": {"GetBucketAcl", "PutBucketAcl", ""},
	"analytics": {"GetAnalyticsConfiguration", "PutAnalyticsConfiguration", "PutAnalyticsConfiguration"}, "cors": {"GetBucketCORS", "PutBucketCORS", "PutBucketCORS"},
	"encryption":          {"GetEncryptionConfiguration", "PutEncryptionConfiguration", "PutEncryptionConfiguration"},
	"intelligent-tiering": {"GetIntelligentTieringConfiguration", "PutIntelligentTieringConfiguration", "PutIntelligentTieringConfiguration"},
	"inventory":           {"GetInventoryConfiguration", "PutInventoryConfiguration", "PutInventoryConfiguration"},
	"lifecycle":           {"GetLifecycleConfiguration", "PutLifecycleConfiguration", "PutLifecycleConfiguration"},
	"location":            {"GetBucketLocation", "", ""}, "logging": {"GetBucketLogging", "PutBucketLogging", ""},
	"metrics": {"GetMetricsConfiguration", "PutMetricsConfiguration", "PutMetricsConfiguration"}, "notification": {"GetBucketNotification", "PutBucketNotification", ""},
	"object-lock":       {"GetBucketObjectLockConfiguration", "PutBucketObjectLockConfiguration", ""},
	"ownershipControls": {"GetBucketOwnershipControls", "PutBucketOwnershipControls", "PutBucketOwnershipControls"},
	"policy":            {"GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"}, "policyStatus": {"GetBucketPolicyStatus", "", ""},
	"publicAccessBlock": {"GetBucketPublicAccessBlock", "PutBucketPublicAccessBlock", "PutBucketPublicAccessBlock"},
	"replication":       {"GetReplicationConfiguration", "PutReplicationConfiguration", "PutReplicationConfiguration"},
	"requestPayment":    {"GetBucketRequestPayment", "PutBucketRequestPayment", ""}, "tagging": {"GetBucketTagging", "PutBucketTagging", "PutBucketTagging"},
	"uploads": {"ListBucketMultipartUploads", "", ""}, "versioning": {"GetBucketVersioning", "PutBucketVersioning", ""},
	"versions": {"ListBucketVersions", "", ""}, "website": {"GetBucketWebsite", "PutBucketWebsite", "DeleteBucketWebsite"},
}

var ofObject = map[string]sub{
	"acl": {"GetObjectAcl", "PutObjectAcl", ""}, "attributes": {"GetObjectAttributes", "", ""}, "legal-hold": {"GetObjectLegalHold", "PutObjectLegalHold", ""},
	"retention": {"GetObjectRetention", "PutObjectRetention", ""}, "tagging": {"GetObjectTagging", "PutObjectTagging", "DeleteObjectTagging"},
	"torrent": {"GetObjectTorrent", "", ""}, "uploadId": {"ListMultipartUploadParts", "PutObject", "AbortMultipartUpload"},
}

// actions are those of a request on the parts that it names. It needs all of them: which one is served is not for here.
func actions(all map[string]sub, r *http.Request) (found []string) {
	for name := range r.URL.Query() {
		s := all[name]
		a := s.put
		switch r.Method {
		case http.MethodGet, http.MethodHead:
			a = s.get
		case http.MethodDelete:
			a = s.del
		}
		if a != "" {
			found = append(found, a)
		}
	}
	return found
}

// asks tells what a request asks to be allowed. document is its body, where that names objects.
func asks(r *http.Request, document []byte) []wire.Ask {
	bucket, name, _ := strings.Cut(strings.TrimLeft(r.URL.Path, "/"), "/")
	switch {
	case bucket == "":
		return []wire.Ask{{Action: "s3:ListAllMyBuckets"}}
	case name == "":
		return askBucket(r, bucket, document)
	}
	on := func(actions ...string) (all []wire.Ask) {
		for _, a := range actions {
			all = append(all, wire.Ask{Action: "s3:" + a, Resources: []string{ARN(bucket + "/" + name)}})
		}
		return all
	}
	if all := actions(ofObject, r); len(all) > 0 {
		return append(on(all...), source(r)...)
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return on("GetObject")
	case http.MethodDelete:
		return on("DeleteObject")
	}
	return append(on("PutObject"), source(r)...)
}

// source asks for reading what a request copies. It reads the name just as gofakes3 does.
func source(r *http.Request) []wire.Ask {
	raw := r.Header.Get("X-Amz-Copy-Source")
	bucket, key, ok := strings.Cut(strings.TrimPrefix(raw, "/"), "/")
	if raw == "" || !ok {
		return nil
	}
	key, _, _ = strings.Cut(key, "?")
	name, err := url.QueryUnescape(key)
	if err != nil {
		name = "*"
	}
	return []wire.Ask{{Action: "s3:GetObject", Resources: []string{ARN(bucket + "/" + name)}}}
}

func askBucket(r *http.Request, bucket string, document []byte) []wire.Ask {
	q := r.URL.Query()
	on := func(action string) wire.Ask {
		return wire.Ask{Action: "s3:" + action, Resources: []string{ARN(bucket)}}
	}
	if all := actions(ofBucket, r); len(all) > 0 {
		var asks []wire.Ask
		for _, a := range all {
			asks = append(asks, on(a))
		}
		return asks
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		ask := on("ListBucket")
		ask.Context = map[string][]string{}
		for _, key := range []string{"prefix", "delimiter", "max-keys"} {
			if q.Has(key) {
				ask.Context["s3:"+key] = []string{q.Get(key)}
			}
		}
		return []wire.Ask{ask}
	case http.MethodPut:
		return []wire.Ask{on("CreateBucket")}
	case http.MethodDelete:
		return []wire.Ask{on("DeleteBucket")}
	}
	if !q.Has("delete") { // a form
		return []wire.Ask{{Action: "s3:PutObject", Resources: []string{ARN(bucket + "/*")}}}
	}
	var in struct {
		Object []struct{ Key string }
	}
	ask := wire.Ask{Action: "s3:DeleteObject"}
	if xml.Unmarshal(document, &in) == nil {
		for _, o := range in.Object {
			ask.Resources = append(ask.Resources, ARN(bucket+"/"+o.Key))
		}
	}
	if len(ask.Resources) == 0 {
		ask.Resources = []string{ARN(bucket + "/*")}
	}
	return []wire.Ask{ask}
}
