import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { describe, test } from 'node:test'
import { errorClass, HoldfastError } from '../../model/errors.ts'
import type { DestinationKind } from '../../model/types.ts'
import {
  checkDestinationSecrets,
  type DestinationExtras,
  openDestination,
  parseDestinationUri,
} from '../../storage/index.ts'
import { applicationCertificate } from '../servers/certificate.ts'
import { localRecord } from './subjects.ts'

const endpoint = 'https://store.example.com:9000'

describe('destination URIs', () => {
  const good: [string, DestinationExtras, { kind: string; uri: string; settings: object }][] = [
    ['/var/backups', {}, { kind: 'local', uri: 'file:///var/backups', settings: {} }],
    ['/var/backups//x/', {}, { kind: 'local', uri: 'file:///var/backups/x', settings: {} }],
    ['file:///var/back%20ups', {}, { kind: 'local', uri: 'file:///var/back%20ups', settings: {} }],
    ['file:/var/backups', {}, { kind: 'local', uri: 'file:///var/backups', settings: {} }],
    ['path:/var/back ups', {}, { kind: 'local', uri: 'file:///var/back%20ups', settings: {} }],
    ['path:///var/größe', {}, { kind: 'local', uri: 'file:///var/gr%C3%B6%C3%9Fe', settings: {} }],
    ['/odd/50%25 #1?', {}, { kind: 'local', uri: 'file:///odd/50%2525%20%231%3F', settings: {} }],
    ['server://db1/var/backups/', {}, { kind: 'server', uri: 'server://db1/var/backups', settings: {} }],
    ['SERVER://db1/var/back ups', {}, { kind: 'server', uri: 'server://db1/var/back%20ups', settings: {} }],
    [
      'server://db1/größe/50%25',
      {},
      { kind: 'server', uri: 'server://db1/gr%C3%B6%C3%9Fe/50%25', settings: {} },
    ],
    ['server://local/srv', {}, { kind: 'server', uri: 'server://local/srv', settings: {} }],
    ['s3://vault', {}, { kind: 's3', uri: 's3://vault', settings: { pathStyle: false } }],
    ['s3://vault/', {}, { kind: 's3', uri: 's3://vault', settings: { pathStyle: false } }],
    [
      'aws://vault/prod/db/',
      { region: 'eu-central-1' },
      { kind: 's3', uri: 's3://vault/prod/db', settings: { region: 'eu-central-1', pathStyle: false } },
    ],
    [
      'AMAZON://vault/a b',
      { pathStyle: true },
      { kind: 's3', uri: 's3://vault/a b', settings: { pathStyle: true } },
    ],
    [
      'azure://backups',
      { account: 'acme' },
      { kind: 'azure', uri: 'azure://backups', settings: { account: 'acme' } },
    ],
    ...['gcs', 'gs', 'gcp', 'google', 'google_cloud_storage', 'google-cloud-storage'].map(
      (scheme): (typeof good)[number] => [
        `${scheme}://vault/prod/db/`,
        {},
        { kind: 'gcs', uri: 'gcs://vault/prod/db', settings: {} },
      ],
    ),
    [
      'gcs://vault',
      { objectLock: { mode: 'governance', days: 30 }, legalHold: true, storageClass: 'ARCHIVE' },
      {
        kind: 'gcs',
        uri: 'gcs://vault',
        settings: {
          storageClass: 'ARCHIVE',
          objectLock: { mode: 'governance', days: 30 },
          legalHold: true,
        },
      },
    ],
    [
      'azure://backups',
      { account: 'acme', encryptionScope: 'backups', tags: { team: 'db' }, storageClass: 'Cold' },
      {
        kind: 'azure',
        uri: 'azure://backups',
        settings: {
          account: 'acme',
          storageClass: 'Cold',
          encryptionScope: 'backups',
          tags: { team: 'db' },
        },
      },
    ],
    ['gs://vault_1', { endpoint }, { kind: 'gcs', uri: 'gcs://vault_1', settings: { endpoint } }],
    ...['az', 'azblob', 'azureblob', 'azure_blob', 'azure-blob', 'Blob'].map(
      (scheme): (typeof good)[number] => [
        `${scheme}://backups/prod/db/`,
        { endpoint: 'https://acme.blob.core.windows.net/' },
        {
          kind: 'azure',
          uri: 'azure://backups/prod/db',
          settings: { account: 'acme', endpoint: 'https://acme.blob.core.windows.net' },
        },
      ],
    ),
    ...['s3', 's3compatible', 's3-compatible', 'minio'].map((scheme): (typeof good)[number] => [
      `${scheme}://vault/prod`,
      { endpoint: `${endpoint}/` },
      { kind: 's3', uri: 's3://vault/prod', settings: { endpoint, region: 'us-east-1', pathStyle: true } },
    ]),
  ]
  for (const [text, extras, expected] of good) {
    test(`takes ${text} ${JSON.stringify(extras)}`, () => {
      const parsed = parseDestinationUri(text, extras)
      assert.deepEqual(parsed, expected)
      assert.equal(
        parseDestinationUri(parsed.uri, ['local', 'server'].includes(parsed.kind) ? {} : extras).uri,
        parsed.uri,
      )
    })
  }

  const bad: [string, DestinationExtras, RegExp][] = [
    ['', {}, /absolute path/],
    ['backups', {}, /absolute path/],
    ['./backups', {}, /absolute path/],
    ['/', {}, /root of the file system/],
    ['/a/../b', {}, /"\.\."/],
    ['file:///a/../b', {}, /"\.\."/],
    ['file:///a/%2e%2E/b', {}, /"\.\."/],
    ['file://host/share', {}, /file URI/],
    ['file:relative', {}, /three slashes/],
    ['file:///a?b=c', {}, /%3F/],
    ['/a\nb', {}, /control characters/],
    ['/var/backups', { region: 'eu-west-1' }, /region has no meaning/],
    ['server:/var/backups', {}, /server:\/\/HOST\/directory/],
    ['server:///var/backups', {}, /name of a host/],
    ['server://db1', {}, /absolute path/],
    ['server://db1/', {}, /root of the file system/],
    ['server://db1/a/../b', {}, /"\.\."/],
    ['server://db1/a?b', {}, /%3F/],
    ['server://DB_1/var', {}, /name of a host/],
    ['server://postgres:canary-secret@db1/var', {}, /user and port belong to the host/],
    ['server://db1:22/var', {}, /user and port belong to the host/],
    ['server://db1/var', { region: 'eu' }, /region has no meaning for a server's directory/],
    ['ftp://host/x', {}, /"ftp:" is not one of/],
    ['constructor://x', {}, /is not one of/],
    ['s3:vault', {}, /bucket\/prefix/],
    ['s3:///x', {}, /bucket name/],
    ['s3://Vault', {}, /bucket name/],
    ['s3://v', {}, /bucket name/],
    ['s3://vault/a/../b', {}, /"\.\."/],
    ['s3://vault//a', {}, /empty segment/],
    ['s3://vault/x?region=eu', {}, /settings do not belong/],
    ['s3://AKIDEXAMPLE:canary-secret@vault/x', {}, /credentials do not belong/],
    ['minio://vault', {}, /needs an endpoint/],
    ['s3://vault', { endpoint: 'ftp://x' }, /endpoint/],
    ['s3://vault', { endpoint: 'https://key:canary-secret@store.example.com' }, /endpoint/],
    ['s3://vault', { region: 'EU WEST' }, /region/],
    ['s3://vault', { storageClass: 'canary secret' }, /storageClass/],
    ['s3://vault', { kmsKeyId: 'alias/x' }, /kmsKeyId .* needs the encryption aws:kms/],
    ['s3://vault', { maxParts: 20_000 }, /maxParts/],
    ['s3://vault', { objectLock: { mode: 'compliance', days: 0 } }, /objectLock\.days/],
    ['s3://vault', { encryptionScope: 'backups' }, /encryptionScope has no meaning for an S3 store/],
    ['gcs://vault', { storageClass: 'GLACIER' }, /storageClass .* NEARLINE/],
    ['gcs://vault', { kmsKeyId: 'alias/x' }, /kmsKeyId .* projects\//],
    ['gcs://vault', { tags: { a: 'b' } }, /tags has no meaning for Google/],
    ['gcs://vault', { metadata: { holdfastupload: 'x' } }, /metadata.* are ours/],
    ['azure://backups', { account: 'acme', storageClass: 'STANDARD_IA' }, /storageClass .* Cool/],
    ['azure://backups', { account: 'acme', metadata: { 'a-b': 'x' } }, /metadata/],
    ['azure://backups', { account: 'acme', tags: { 'a?': 'x' } }, /tags/],
    ['azure://backups', { account: 'acme', encryptionScope: 'x' }, /encryptionScope/],
    ['azure://backups', { account: 'acme', kmsKeyId: 'x' }, /kmsKeyId has no meaning for Azure/],
    ['/var/backups', { legalHold: true }, /legalHold has no meaning for a directory/],
    [
      's3://vault',
      { tags: Object.fromEntries(Array.from('abcdefghijk', name => [name, 'x'])) },
      /tags .* ten/,
    ],
    ['s3://vault', { metadata: { 'a b': 'x' } }, /metadata/],
    ['/var/backups', { tags: { a: 'b' } }, /tags has no meaning for a directory/],
    ['s3://vault', { account: 'acme' }, /account has no meaning for an S3 store/],
    ['gcs://Vault', {}, /bucket name/],
    ['gcs://vault', { region: 'eu' }, /region has no meaning for Google/],
    ['gcs://vault', { endpoint: 'https://key:canary-secret@store.example.com' }, /endpoint/],
    ['azure://backups', {}, /account is missing/],
    ['azure://backups', { account: 'Acme' }, /lower-case letters and digits/],
    ['azure://backups', { account: 'acme', region: 'eu' }, /region has no meaning for Azure/],
    ['azure://acme@backups/x', { account: 'acme' }, /credentials do not belong/],
    ['azure://back--ups', { account: 'acme' }, /container name/],
    ['azure://backups/a\\b', { account: 'acme' }, /backslash/],
    [
      'azure://backups',
      { account: 'acme', endpoint: 'https://other.blob.core.windows.net' },
      /account other/,
    ],
  ]
  for (const [text, extras, why] of bad) {
    test(`refuses ${JSON.stringify(text)} ${JSON.stringify(Object.keys(extras))}`, () => {
      assert.throws(
        () => parseDestinationUri(text, extras),
        error => {
          assert.ok(error instanceof HoldfastError)
          assert.equal(error.code, 'request.invalid')
          assert.match(error.message, why)
          assert.ok(!JSON.stringify(error.facts()).includes('canary-secret'))
          return true
        },
      )
    })
  }

  const key = Buffer.alloc(64, 'k').toString('base64')
  const canary = 'canary-secret'
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const serviceAccount = (other: object) =>
    JSON.stringify({
      type: 'service_account',
      client_email: 'holdfast@example.iam.gserviceaccount.com',
      private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
      ...other,
    })
  const id = '20be3a2d-3d5a-4d9a-a30a-a5bd1b8a3e9c'
  const application = { tenantId: id, clientId: id }
  const { pem: certificate } = applicationCertificate()
  const { pem: curved } = applicationCertificate('ec')
  const mixed = `${privateKey.export({ type: 'pkcs8', format: 'pem' })}${applicationCertificate().certificate}`
  const forms: [DestinationKind, Record<string, string>, RegExp | undefined][] = [
    ['local', {}, undefined],
    ['local', { accountKey: key }, /accountKey has no meaning for a directory/],
    ['server', {}, undefined],
    ['server', { password: canary }, /password has no meaning for a server's directory/],
    ['s3', { accessKeyId: 'AKID', secretAccessKey: canary }, undefined],
    ['s3', { accessKeyId: canary }, /secretAccessKey .* without its secret key/],
    ['s3', { sessionToken: canary }, /sessionToken .* without its keys/],
    ['s3', { accessKeyId: `${canary}/`, secretAccessKey: canary }, /is it the secret key/],
    ['s3', { accessKeyId: 'AKID', secretAccessKey: `${canary}\n` }, /spaces or line ends/],
    ['s3', { sasToken: canary }, /sasToken has no meaning for an S3 store/],
    ['gcs', { serviceAccountKey: serviceAccount({}) }, undefined],
    ['gcs', { serviceAccountKey: canary }, /not the JSON of a key file/],
    ['gcs', { serviceAccountKey: serviceAccount({ type: 'authorized_user' }) }, /type is not what/],
    ['gcs', { serviceAccountKey: serviceAccount({ private_key: canary }) }, /not a private key in PEM/],
    ['gcs', { accountKey: key }, /accountKey has no meaning for Google/],
    ['azure', { accountKey: key }, undefined],
    ['azure', { accountKey: canary }, /accountKey .* base64 of 64 bytes/],
    ['azure', { accountKey: key, sasToken: canary }, /sasToken .* one of them is enough/],
    ['azure', { sasToken: '?sv=2024-11-04&sig=abc' }, undefined],
    ['azure', { sasToken: canary }, /sv=… and sig=…/],
    [
      'azure',
      { connectionString: `AccountName=acme;AccountKey=${key};EndpointSuffix=core.windows.net` },
      undefined,
    ],
    ['azure', { connectionString: `AccountName=acme;AccountKey=${canary}` }, /base64 of 64 bytes/],
    ['azure', { connectionString: `BlobEndpoint=https://acme.example/${canary}` }, /neither AccountKey/],
    ['azure', { connectionString: canary }, /NAME=VALUE/],
    ['azure', { ...application, clientSecret: canary }, undefined],
    ['azure', { ...application, tenantId: 'acme.onmicrosoft.com', clientSecret: canary }, undefined],
    ['azure', { ...application, clientCertificate: certificate }, undefined],
    ['azure', { ...application, tenantId: canary, clientSecret: canary }, /id of a tenant/],
    ['azure', { ...application, clientId: canary, clientSecret: canary }, /id of an application/],
    ['azure', { ...application, clientSecret: id }, /id of a secret; its value/],
    ['azure', { ...application, clientSecret: `${canary} x` }, /value of a client secret/],
    ['azure', { ...application, clientSecret: canary, clientCertificate: canary }, /one of them is enough/],
    [
      'azure',
      { ...application, clientSecret: canary, accountKey: key },
      /accountKey .* one of them is enough/,
    ],
    ['azure', { ...application, clientCertificate: canary }, /PEM of a certificate and its private key/],
    ['azure', { ...application, clientCertificate: curved }, /must be RSA/],
    ['azure', { ...application, clientCertificate: mixed }, /another certificate's/],
  ]
  for (const [kind, secrets, why] of forms) {
    test(`${why === undefined ? 'takes' : 'refuses'} ${Object.keys(secrets)} for ${kind}${why ? `: ${why}` : ''}`, () => {
      if (why === undefined) return checkDestinationSecrets(kind, secrets)
      assert.throws(
        () => checkDestinationSecrets(kind, secrets),
        error => {
          assert.ok(error instanceof HoldfastError)
          assert.equal(error.code, 'request.invalid')
          assert.match(error.message, why)
          assert.ok(Object.keys(secrets).includes(String(error.context.field)) || kind === 's3')
          assert.ok(!JSON.stringify(error.facts()).includes(canary))
          return true
        },
      )
    })
  }

  test('a signature that has expired since it was given parks the operation that finds it so', async () => {
    const record = {
      ...localRecord('/x'),
      kind: 'azure' as const,
      uri: 'azure://backups',
      settings: { account: 'acme' },
    }
    const sasToken = 'sv=2024-11-04&sig=canary-secret&se=2020-01-01T00:00:00Z'
    await assert.rejects(openDestination(record, { sasToken }), error => {
      assert.ok(error instanceof HoldfastError && error.code === 'destination.denied')
      assert.equal(errorClass(error.code), 'needs-operator')
      assert.match(error.message, /expired at 2020/)
      return !JSON.stringify(error.facts()).includes(canary)
    })
  })

  test('a connection string names its place', () => {
    const connectionString = `DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=${key};EndpointSuffix=core.windows.net`
    const { settings } = parseDestinationUri('azure://backups', {}, { connectionString })
    assert.deepEqual(settings, { account: 'acme', endpoint: 'https://acme.blob.core.windows.net' })
  })

  test('half a pair of keys is refused', async () => {
    const record = {
      ...localRecord('/x'),
      kind: 's3' as const,
      uri: 's3://vault',
      settings: { pathStyle: true },
    }
    await assert.rejects(openDestination(record, { accessKeyId: 'AKID' }), /without its secret key/)
    await assert.rejects(openDestination(record, { secretAccessKey: 'canary-secret' }), error => {
      assert.ok(error instanceof HoldfastError && !JSON.stringify(error.facts()).includes('canary-secret'))
      return true
    })
  })
})
