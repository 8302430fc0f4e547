import { randomBytes } from 'node:crypto'
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { writerIdentity } from '../../catalog/installation.ts'
import { addKey, bringKeyBack, keyring, retireKey } from '../../catalog/keys.ts'
import { lockKey, openedKeys, openKey } from '../../catalog/opened-keys.ts'
import { HoldfastError } from '../../model/errors.ts'
import { rotationWorkflowId } from '../../model/ids.ts'
import { keyInput, retireInput, rotateInput, unlockInput } from '../../model/inputs.ts'
import { type KmsKey, kmsKeyOf } from '../../model/manifest.ts'
import type { KeyRef, OperationRecord, RotateInput } from '../../model/records.ts'
import { homePaths } from '../../model/settings.ts'
import { accepted, type KeyView, keyView, page } from '../../model/views.ts'
import { createKey, createKmsKey, importPublicKey, keyFilesOf } from '../../storage/keys.ts'
import { openKms } from '../../storage/kms/index.ts'
import { createLockedKey } from '../../storage/locked-keys.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { assertNotNeeded } from '../key-needs.ts'
import { keyViews } from '../key-views.ts'
import { requires } from '../roles.ts'
import { newOperation, newOperationId, patienceOf, submit, submittedBefore } from '../submit.ts'
import { operationViewOf } from '../views.ts'
import { body, json, nameParam, nothing, pageByKey, pageQuery, problems } from './answers.ts'

const tags = ['keys']

const add = createRoute({
  method: 'post',
  path: '/v1/keys',
  tags,
  ...requires('admin'),
  summary: 'Make a key file, or take in a public key or a key of a key management service',
  description: 'The private key stays in the keys directory; no answer ever holds it.',
  request: { body: body(keyInput) },
  responses: { 201: json(keyView, 'Made'), ...problems },
})
const list = createRoute({
  method: 'get',
  path: '/v1/keys',
  tags,
  ...requires('viewer', 'nothing'),
  summary: 'All keys',
  request: { query: z.strictObject(pageQuery) },
  responses: { 200: json(page(keyView), 'By name'), ...problems },
})
const unlock = createRoute({
  method: 'post',
  path: '/v1/keys/{name}/unlock',
  tags,
  ...requires('operator'),
  summary: 'Open a locked key for a while, so that backups can be restored with it',
  request: { params: nameParam, body: body(unlockInput) },
  responses: { 200: json(keyView, 'Open'), ...problems },
})
const lock = createRoute({
  method: 'post',
  path: '/v1/keys/{name}/lock',
  tags,
  ...requires('operator'),
  summary: 'Lock a key again',
  request: { params: nameParam, body: body(nothing) },
  responses: { 200: json(keyView, 'Locked'), ...problems },
})

const rotate = createRoute({
  method: 'post',
  path: '/v1/keys/{name}/rotate',
  tags,
  ...requires('admin'),
  summary: 'Make every backup that this key opens open with another one, too, which takes its place',
  description:
    'Key sidecars are added; manifests and artifacts stay as they are. Asked again, it goes on with what is left.',
  request: { params: nameParam, body: body(rotateInput) },
  responses: { 202: json(accepted, 'Accepted: it goes on whatever happens to this process'), ...problems },
})
const retire = createRoute({
  method: 'post',
  path: '/v1/keys/{name}/retire',
  tags,
  ...requires('admin'),
  summary: 'Put a key away that nothing needs any more',
  description: '409 `key.needed` names what needs it. Its file goes to `retired/` of the keys directory.',
  request: { params: nameParam, body: body(retireInput) },
  responses: { 200: json(keyView, 'The key as it was'), ...problems },
})
const bringBack = createRoute({
  method: 'post',
  path: '/v1/keys/{name}/bring-back',
  tags,
  ...requires('admin'),
  summary: 'Use a retired key again',
  request: { params: nameParam, body: body(nothing) },
  responses: { 200: json(keyView, 'In use'), ...problems },
})

const defaultMinutes = 60

export function keyRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  const { catalog, settings, temporal } = context
  const directory = homePaths(settings.home).keys
  const viewOf = async (name: string): Promise<KeyView> => {
    const found = (await keyViews(catalog, directory)).find(key => key.name === name)
    if (!found) throw new HoldfastError('key.missing', `There is no key "${name}".`)
    return found
  }
  app.openapi(add, async c => {
    const { name, ...kinds } = c.req.valid('json')
    const { publicKey, passphrase } = kinds
    if (Object.values(kinds).filter(one => one !== undefined).length > 1) {
      throw new HoldfastError(
        'request.invalid',
        'A key has one kind: publicKey (its private key lies elsewhere), passphrase, awsKms, gcpKms or azureKey.',
      )
    }
    const kms = kmsKeyOf(kinds)
    const make = async (file: string, made: () => Promise<unknown>) => {
      await addKey(catalog, directory, file, made)
      return c.json(await viewOf(name), 201)
    }
    if (publicKey !== undefined) {
      return await make(`${name}.pub.json`, () => importPublicKey(directory, name, publicKey))
    }
    const { installationId, publicKey: own } = await writerIdentity(catalog)
    const trusted = { [installationId]: own }
    if (kms !== undefined) {
      await assertUsable(kms)
      return await make(`${name}.json`, () => createKmsKey(directory, name, trusted, kms))
    }
    return await make(`${name}.json`, () =>
      passphrase === undefined
        ? createKey(directory, name, trusted)
        : createLockedKey(directory, name, trusted, passphrase),
    )
  })
  app.openapi(unlock, async c => {
    const { name } = c.req.valid('param')
    const { passphrase, minutes = defaultMinutes } = c.req.valid('json')
    await openKey(catalog, directory, name, passphrase, minutes)
    return c.json(await viewOf(name), 200)
  })
  app.openapi(lock, async c => {
    const { name } = c.req.valid('param')
    await lockKey(catalog, directory, name)
    return c.json(await viewOf(name), 200)
  })
  app.openapi(rotate, async c => {
    const requestKey = c.get('requestKey')
    const { name } = c.req.valid('param')
    const operation =
      (await submittedBefore(context, requestKey)) ??
      (await submit(context, await newRotation(context, name, c.req.valid('json').to), requestKey))
    return c.json({ operation: operationViewOf(operation, temporal) }, 202)
  })
  app.openapi(retire, async c => {
    const { name } = c.req.valid('param')
    const { openedElsewhere = false } = c.req.valid('json')
    const view = await viewOf(name)
    await assertNotNeeded(context, await keyring(catalog, directory), view, openedElsewhere)
    await retireKey(catalog, directory, name)
    return c.json(view, 200)
  })
  app.openapi(bringBack, async c => {
    const { name } = c.req.valid('param')
    await bringKeyBack(catalog, directory, name)
    return c.json(await viewOf(name), 200)
  })
  app.openapi(list, async c => {
    const items = await keyViews(catalog, directory)
    return c.json(
      pageByKey(
        items,
        c.req.valid('query'),
        key => key.name,
        key => key,
      ),
      200,
    )
  })
}

/** It encrypts for us now. Whether it decrypts is left to restores: a host may be allowed to write only. */
async function assertUsable(kms: KmsKey): Promise<void> {
  await (await openKms(kms)).encrypt(randomBytes(32))
}

/** Throws `key.missing`, `key.locked`, `request.invalid`. */
async function newRotation(context: ApiContext, name: string, to: string): Promise<OperationRecord> {
  const { catalog, settings } = context
  const ring = await keyring(catalog, homePaths(settings.home).keys)
  const [from, next] = [name, to].map(asked => {
    const found = [...keyFilesOf(ring), ...ring.recipients].find(key => key.name === asked)
    if (found) return { name: found.name, kid: found.kid }
    throw new HoldfastError('key.missing', `There is no key "${asked}".`)
  }) as [KeyRef, KeyRef]
  if (from.kid === next.kid) {
    throw new HoldfastError('request.invalid', `A key cannot take its own place: ${name}.`)
  }
  const locked = ring.locked.some(({ kid }) => kid === from.kid)
  if (locked && !(await openedKeys(catalog)).some(({ kid }) => kid === from.kid)) {
    throw new HoldfastError('key.locked', `Key "${name}" is locked: what it opens cannot be opened now.`, {
      hint: `Open it for a while: holdfast keys unlock ${name}`,
    })
  }
  const operationId = newOperationId()
  const input: RotateInput = {
    version: 1,
    operationId,
    from,
    to: next,
    ...patienceOf(context, { unattended: false }),
  }
  return {
    ...newOperation(),
    id: operationId,
    kind: 'rotateKeys',
    connection: null,
    engine: null,
    backupId: null,
    destination: null,
    targetDatabase: null,
    workflowId: rotationWorkflowId,
    input,
    warnings: [],
    createdAt: new Date().toISOString(),
  }
}
