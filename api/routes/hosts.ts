/** Machines that tools run on, over SSH. Their keys are agreed to by somebody, never by themselves. */

import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import {
  findHost,
  hostSecrets,
  insertHost,
  listHosts,
  pinHostKey,
  readHost,
  removeHost,
  type StoredHost,
} from '../../catalog/hosts.ts'
import { resolveSecrets } from '../../catalog/secret-references.ts'
import { loginOf } from '../../hosts/index.ts'
import { fingerprint, isHostKey, openSshHost, type SshHost, shownKey } from '../../hosts/ssh/index.ts'
import { HoldfastError } from '../../model/errors.ts'
import { type HostInput, hostInput, hostTrustInput } from '../../model/inputs.ts'
import type { CheckResult } from '../../model/types.ts'
import { hostCheckView, hostView, page } from '../../model/views.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { InvalidRequest } from '../problem.ts'
import { requires } from '../roles.ts'
import { hostViewOf } from '../views.ts'
import { body, json, nameParam, nothing, pageByKey, pageQuery, problems } from './answers.ts'

const tags = ['hosts']

const add = createRoute({
  method: 'post',
  path: '/v1/hosts',
  tags,
  ...requires('admin'),
  summary: 'Remember a machine over SSH that tools may run on; the key it shows is told, not trusted',
  request: { body: body(hostInput) },
  responses: { 201: json(hostView, 'Remembered'), ...problems },
})
const list = createRoute({
  method: 'get',
  path: '/v1/hosts',
  tags,
  ...requires('viewer'),
  summary: 'All hosts',
  request: { query: z.strictObject(pageQuery) },
  responses: { 200: json(page(hostView), 'By name'), ...problems },
})
const show = createRoute({
  method: 'get',
  path: '/v1/hosts/{name}',
  tags,
  ...requires('viewer'),
  summary: 'One host, without its secrets',
  request: { params: nameParam },
  responses: { 200: json(hostView, 'The host'), ...problems },
})
const trust = createRoute({
  method: 'post',
  path: '/v1/hosts/{name}/trust',
  tags,
  ...requires('admin'),
  summary: 'Agree to the key that the host shows now, named by its fingerprint; or ask for it, naming none',
  request: { params: nameParam, body: body(hostTrustInput) },
  responses: { 200: json(hostView, 'As it is now'), ...problems },
})
const testIt = createRoute({
  method: 'post',
  path: '/v1/hosts/{name}/test',
  tags,
  ...requires('operator'),
  summary: 'Log in, become the user it is for, and look for what jobs need',
  request: { params: nameParam, body: body(nothing) },
  responses: { 200: json(hostCheckView, 'What was found'), ...problems },
})
const remove = createRoute({
  method: 'delete',
  path: '/v1/hosts/{name}',
  tags,
  ...requires('admin'),
  summary: 'Forget a host and its secrets',
  request: { params: nameParam },
  responses: { 204: { description: 'Forgotten' }, ...problems },
})

export function hostRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  const { catalog } = context
  app.openapi(add, async c => {
    const requestKey = c.get('requestKey')
    const input = c.req.valid('json')
    const known = await findHost(catalog, input.name)
    if (known && requestKey !== null && known.requestKey === requestKey) {
      return c.json(hostViewOf(known, null), 201)
    }
    if (known) throw new HoldfastError('request.exists', `There is a host named ${input.name} already.`)
    const { host, secrets } = readInput(input, requestKey)
    // What it shows is for a person to compare; a machine that is off can be remembered all the same.
    const shown = host.hostKeys.length > 0 ? null : await keyOf(context, host, {}).catch(passOver)
    await insertHost(catalog, host, secrets)
    return c.json(hostViewOf(host, shown), 201)
  })
  app.openapi(list, async c =>
    c.json(
      pageByKey(
        await listHosts(catalog),
        c.req.valid('query'),
        one => one.name,
        one => hostViewOf(one, null),
      ),
      200,
    ),
  )
  app.openapi(show, async c =>
    c.json(hostViewOf(await readHost(catalog, c.req.valid('param').name), null), 200),
  )
  app.openapi(trust, async c => {
    const host = await readHost(catalog, c.req.valid('param').name)
    const wanted = c.req.valid('json').fingerprint
    const shown = await keyOf(context, host, await resolveSecrets(await hostSecrets(catalog, host.name)))
    if (wanted === undefined) return c.json(hostViewOf(host, shown), 200)
    c.set('auditDetail', { fingerprint: wanted })
    if (fingerprint(shown) !== wanted) {
      throw new HoldfastError(
        'host.key-changed',
        `Agreeing to the key of ${host.name}: it shows ${fingerprint(shown)}, not ${wanted}.`,
      )
    }
    await pinHostKey(catalog, host.name, [shown])
    return c.json(hostViewOf({ ...host, hostKeys: [shown] }, shown), 200)
  })
  app.openapi(testIt, async c => {
    const { name } = c.req.valid('param')
    await readHost(catalog, name)
    return c.json({ name, checks: await checksOf(context, name) }, 200)
  })
  app.openapi(remove, async c => {
    await removeHost(catalog, c.req.valid('param').name)
    return c.body(null, 204)
  })
}

const passOver = (error: unknown): null => {
  if (error instanceof HoldfastError) return null
  throw error
}

async function keyOf(
  context: ApiContext,
  host: StoredHost,
  secrets: Record<string, string>,
): Promise<string> {
  const { through } = host.settings
  const jump = through === null ? undefined : await jumpHost(context, through)
  try {
    return await shownKey(loginOf({ record: host, secrets }, jump))
  } finally {
    jump?.link.close()
  }
}

async function jumpHost(context: ApiContext, name: string, depth = 0): Promise<SshHost> {
  const record = await readHost(context.catalog, name)
  const { through, runAs, tempDir } = record.settings
  if (depth > 3) throw new HoldfastError('request.invalid', `Host ${name} is too many hosts away.`)
  const jump = through === null ? undefined : await jumpHost(context, through, depth + 1)
  const secrets = await resolveSecrets(await hostSecrets(context.catalog, name))
  return openSshHost({ login: loginOf({ record, secrets }, jump), runAs, stagingRoot: tempDir })
}

function readInput(input: HostInput, requestKey: string | null) {
  const url = /^ssh:\/\/([^@/:]+)@(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?\/?$/.exec(input.url)
  const port = Number(url?.[3] ?? 22)
  if (!url || port < 1 || port > 65_535) {
    throw new InvalidRequest([{ path: 'url', message: 'must be ssh://USER@ADDRESS[:PORT]' }])
  }
  const user = decodeURIComponent(url[1] ?? '')
  const keys = input.hostKeys ?? []
  const bad = keys.findIndex(key => !isHostKey(key))
  if (bad !== -1) {
    throw new InvalidRequest([
      { path: `hostKeys.${bad}`, message: 'is not a public key as OpenSSH writes it' },
    ])
  }
  const secrets = Object.fromEntries(
    Object.entries(input.secrets ?? {}).filter((entry): entry is [string, string] => entry[1] !== undefined),
  )
  const runAs = input.runAs ?? null
  const host: StoredHost = {
    name: input.name,
    settings: {
      address: (url[2] ?? '').replace(/^\[|\]$/g, ''),
      port,
      user,
      runAs,
      tempDir: input.tempDir ?? `/var/tmp/holdfast-${runAs ?? user}`,
      through: input.through ?? null,
      agent: input.agent ?? false,
    },
    secretFields: Object.keys(secrets).sort(),
    hostKeys: keys,
    createdAt: new Date().toISOString(),
    requestKey,
  }
  return { host, secrets }
}

const needed = ['cat', 'dd', 'find', 'head', 'mkfifo', 'stat', 'sync', 'tail', 'truncate', 'wc'] as const

/** The first that fails ends it: what comes after would fail for the same reason. */
async function checksOf(context: ApiContext, name: string): Promise<CheckResult[]> {
  const checks: CheckResult[] = []
  const check = async (id: string, title: string, ask: () => Promise<string>): Promise<boolean> => {
    try {
      checks.push({ id, title, answer: 'pass', detail: await ask() })
      return true
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
      const { code, hint, message: detail } = error
      checks.push({ id, title, answer: 'fail', detail, hint, code })
      return false
    }
  }
  const host = await context.hostNamed(name)
  const reached = await check('host.login', 'It can be logged in to', async () => {
    await host.files.stat('/')
    return 'A shell answers.'
  })
  if (!reached) return checks
  const staging = await check('host.staging', 'Staging can be written and has room', async () => {
    const probe = `${host.stagingRoot}/.precheck-${crypto.randomUUID()}`
    await host.files.ensureDirectory(host.stagingRoot)
    await host.files.write(probe, 'holdfast')
    await host.files.remove(probe)
    return `${((await host.files.freeBytes(host.stagingRoot)) / 1e9).toFixed(2)} GB free in ${host.stagingRoot}`
  })
  if (!staging) return checks
  await check('host.tools', 'What jobs need is installed', async () => {
    for (const program of needed) {
      if (await host.tool(program)) continue
      throw new HoldfastError('host.tool-missing', `"${program}" was not found on host "${name}".`)
    }
    return needed.join(', ')
  })
  const compressor = (await host.tool('pzstd', ['-V'])) && (await host.tool('zstd'))
  checks.push({
    id: 'host.compressor',
    title: 'It can compress before the link',
    answer: compressor ? 'pass' : 'warn',
    detail: compressor
      ? compressor.version
      : 'There is no pzstd and zstd: what is read there crosses the link as it is.',
    ...(compressor ? {} : { hint: 'Install the package zstd there.' }),
  })
  return checks
}
