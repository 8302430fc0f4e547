/** What an S3 store refuses to some, and what a versioned bucket keeps. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import {
  CreateBucketCommand,
  ListObjectVersionsCommand,
  PutBucketPolicyCommand,
  PutBucketVersioningCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import { HoldfastError } from '../../model/errors.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { startVersitygw, type Versitygw, versitygwBinary } from '../servers/versitygw.ts'
import { refuses } from './conformance.ts'
import { send } from './conformance-uploads.ts'
import { s3Subject } from './subjects.ts'

const clientOf = (server: Versitygw) =>
  new S3Client({
    endpoint: server.endpoint,
    region: server.region,
    forcePathStyle: true,
    // The SDK writes into what it is given.
    credentials: { ...server.secrets },
  })

describe('S3: who may do what', () => {
  let server: Versitygw
  let client: S3Client
  before(async () => {
    server = await startVersitygw()
    client = clientOf(server)
  })
  after(async () => {
    client?.destroy()
    await server?.stop()
  })

  /** A user with these actions on a bucket of its own. */
  async function userWith(actions: string[]): Promise<Destination> {
    const access = `user${randomBytes(4).toString('hex')}`
    const secret = randomBytes(12).toString('hex')
    const env = { ADMIN_ACCESS_KEY: server.accessKeyId, ADMIN_SECRET_KEY: server.secretAccessKey }
    const admin = ['admin', '--endpoint-url', server.endpoint, 'create-user']
    const user = ['--access', access, '--secret', secret, '--role', 'user']
    await promisify(execFile)(await versitygwBinary(), [...admin, ...user], { env })
    const bucket = `bucket-${access}`
    await client.send(new CreateBucketCommand({ Bucket: bucket }))
    const on = (only: (action: string) => boolean, resource: string) => ({
      Effect: 'Allow',
      Principal: { AWS: [access] },
      Action: actions.filter(only),
      Resource: resource,
    })
    const isBucket = (action: string) => /Bucket/.test(action)
    const statements = [
      on(isBucket, `arn:aws:s3:::${bucket}`),
      on(action => !isBucket(action), `arn:aws:s3:::${bucket}/*`),
    ].filter(statement => statement.Action.length > 0)
    await client.send(
      new PutBucketPolicyCommand({
        Bucket: bucket,
        Policy: JSON.stringify({ Version: '2012-10-17', Statement: statements }),
      }),
    )
    return await openDestination(server.destinationRecord('theirs', bucket), {
      accessKeyId: access,
      secretAccessKey: secret,
    })
  }

  const needed = [
    's3:PutObject',
    's3:GetObject',
    's3:ListBucket',
    's3:ListMultipartUploadParts',
    's3:ListBucketMultipartUploads',
    's3:AbortMultipartUpload',
    's3:DeleteObject',
  ]

  test('check passes with just the permissions that are documented', async () => {
    const destination = await userWith(needed)
    await destination.check()
    await destination.put('a', Buffer.from('x'), { ifAbsent: true })
    await destination.remove('a')
    await destination.close()
  })

  for (const missing of needed) {
    test(`check names ${missing} when it is missing`, async () => {
      const destination = await userWith(needed.filter(action => action !== missing))
      await assert.rejects(destination.check(), error => {
        assert.ok(error instanceof HoldfastError)
        assert.equal(error.code, 'destination.denied')
        assert.match(error.message, new RegExp(`it needs the permission ${missing}\\.$`))
        return true
      })
      await destination.close()
    })
  }

  test('a wrong secret key and an unknown access key are told apart from missing permissions', async () => {
    const canary = `canary${randomBytes(10).toString('hex')}`
    const wrong = [
      { secrets: { ...server.secrets, secretAccessKey: canary }, hint: /secret key does not fit/ },
      { secrets: { accessKeyId: canary, secretAccessKey: canary }, hint: /does not know this access key/ },
    ]
    for (const { secrets, hint } of wrong) {
      const destination = await openDestination(server.destinationRecord('x'), secrets)
      await assert.rejects(destination.check(), error => {
        assert.ok(error instanceof HoldfastError)
        assert.equal(error.code, 'destination.denied')
        assert.match(error.hint, hint)
        assert.ok(!JSON.stringify(error.facts()).includes(canary))
        return true
      })
      await refuses(destination.read('a'), 'destination.denied')
      await refuses(destination.stat('a'), 'destination.denied')
      await destination.close()
    }
  })

  test('without credentials or region anywhere, each is asked for', async () => {
    const script = `
      import { openDestination } from ${JSON.stringify(new URL('../../storage/index.ts', import.meta.url).href)}
      const settings = JSON.parse(process.argv[1])
      const record = { name: 'x', kind: 's3', uri: 's3://vault', settings, secretFields: [], createdAt: '' }
      const destination = await openDestination(record, {})
      await destination.check().catch(error => console.log(JSON.stringify(error.facts())))`
    const env = {
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_CONFIG_FILE: '/nowhere',
      AWS_SHARED_CREDENTIALS_FILE: '/nowhere',
    }
    const factsFor = async (settings: object) => {
      const args = ['--input-type=module', '--eval', script, JSON.stringify(settings)]
      const { stdout } = await promisify(execFile)(process.execPath, args, { env })
      return JSON.parse(stdout) as { code: string; hint: string }
    }
    const noKeys = await factsFor({ endpoint: server.endpoint })
    assert.equal(noKeys.code, 'destination.denied')
    assert.match(noKeys.hint, /No credentials were given/)
    const noRegion = await factsFor({})
    assert.equal(noRegion.code, 'destination.misconfigured')
    assert.match(noRegion.hint, /AWS_REGION/)
  })

  test('a bucket that does not exist is destination.missing, never "no such object"', async () => {
    const destination = await openDestination(server.destinationRecord('x', 'no-such-bucket'), server.secrets)
    await refuses(destination.stat('a'), 'destination.missing')
    await refuses(destination.read('a'), 'destination.missing')
    await refuses(destination.get('a'), 'destination.missing')
    await refuses(destination.put('a', Buffer.from('x')), 'destination.missing')
    await refuses(destination.openUpload('a'), 'destination.missing')
    await refuses(destination.remove('a'), 'destination.missing')
    await refuses(destination.list('')[Symbol.asyncIterator]().next(), 'destination.missing')
    await refuses(destination.check(), 'destination.missing')
    await destination.close()
  })
})

describe('S3: a versioned bucket', () => {
  let server: Versitygw
  let client: S3Client
  before(async () => {
    server = await startVersitygw({ versioning: true })
    client = clientOf(server)
  })
  after(async () => {
    client?.destroy()
    await server?.stop()
  })

  const versions = async (prefix: string) => {
    const { Versions = [], DeleteMarkers = [] } = await client.send(
      new ListObjectVersionsCommand({ Bucket: server.bucket, Prefix: prefix }),
    )
    return [...Versions, ...DeleteMarkers].map(({ Key }) => Key).sort()
  }

  test('removes one version when it is named, else all of exactly this key', async () => {
    const { destination, kept, close } = await s3Subject(server, 'v')
    await destination.put('a', Buffer.from('one'))
    const { version } = await destination.put('a', Buffer.from('second'))
    await destination.put('a', Buffer.from('the third'))
    await destination.put('ab', Buffer.from('a neighbour'))
    assert.ok(version)
    assert.ok((await destination.stat('a'))?.version)
    assert.deepEqual(await versions('v/'), ['v/a', 'v/a', 'v/a', 'v/ab'])
    await destination.remove('a', { version })
    await destination.remove('a', { version })
    assert.deepEqual(await versions('v/'), ['v/a', 'v/a', 'v/ab'])
    assert.equal(Buffer.from((await destination.read('a')) ?? []).toString(), 'the third')
    await destination.remove('a')
    await destination.remove('a')
    assert.deepEqual(await versions('v/'), ['v/ab'])
    await destination.remove('ab')
    assert.deepEqual(await kept(), [])
    await close()
  })

  test('versions from before versioning was suspended, and delete markers of others, go as well', async () => {
    const { destination, close } = await s3Subject(server, 'w')
    const uploadId = await destination.openUpload('b')
    await destination.completeUpload('b', uploadId, [
      await send(destination, 'b', uploadId, 1, 0, randomBytes(1000)),
    ])
    await destination.put('b', Buffer.from('over it'))
    await client.send(
      new PutBucketVersioningCommand({
        Bucket: server.bucket,
        VersioningConfiguration: { Status: 'Suspended' },
      }),
    )
    const later = (await s3Subject(server, 'w')).destination
    await later.remove('b')
    assert.deepEqual(await versions('w/'), [])
    await later.close()
    await close()
  })
})
