/** Changes of hosts over SSH: another address, login or credentials. A key of the machine is agreed to by somebody, or stays. */
import { createRoute, type OpenAPIHono } from '@hono/zod-openapi'
import { changeHost, hostSecrets, readSshHost, type StoredHost } from '../../catalog/hosts.ts'
import { resolveSecrets } from '../../catalog/secret-references.ts'
import { fingerprint } from '../../hosts/ssh/index.ts'
import { HoldfastError } from '../../model/errors.ts'
import { type HostChange, hostChange } from '../../model/inputs.ts'
import type { SshSettings } from '../../model/records.ts'
import { hostView } from '../../model/views.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { assertMatch, withEtag } from '../etag.ts'
import { InvalidRequest } from '../problem.ts'
import { requires } from '../roles.ts'
import { assertHostKeys, keyOf, passOver, sshAddress } from '../ssh-hosts.ts'
import { hostViewOf } from '../views.ts'
import { body, json, nameParam, problems } from './answers.ts'

const change = createRoute({
  method: 'patch',
  path: '/v1/hosts/{name}',
  tags: ['hosts'],
  ...requires('admin'),
  summary: 'Change address, login, staging or secrets of a machine over SSH',
  description:
    'Agreed keys stay unless `hostKeys` names others. A stored password is not kept for an address where none of the agreed keys is shown. While an operation uses the host, only the way to the same machine and its secrets can be changed.',
  request: { params: nameParam, body: body(hostChange) },
  responses: { 200: json(hostView, 'As it is now'), ...problems },
})

export function hostChangeRoute(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  const { catalog } = context
  app.openapi(change, async c => {
    const before = await readSshHost(catalog, c.req.valid('param').name)
    assertMatch(c, hostViewOf(before, null))
    const input = c.req.valid('json')
    const { settings, hostKeys } = changed(before, input)
    const secrets = Object.fromEntries(
      Object.entries(input.secrets ?? {}).filter(
        (entry): entry is [string, string | null] => entry[1] !== undefined,
      ),
    )
    const shown = await shownBy(context, { ...before, settings })
    const elsewhere = placed(settings) !== placed(before.settings)
    const same = !elsewhere || (shown !== null && before.hostKeys.includes(shown))
    if (!same && before.secretFields.includes('password') && !Object.hasOwn(secrets, 'password')) {
      throw new InvalidRequest([
        {
          path: 'secrets.password',
          message: 'is needed again, or null: the other address shows no key that was agreed to',
        },
      ])
    }
    c.set('auditDetail', { hostKeys: hostKeys.map(fingerprint) })
    const otherwise = !same || whose(settings) !== whose(before.settings)
    const after = await changeHost(catalog, before.name, { settings, hostKeys }, secrets, (now, usedBy) => {
      if (JSON.stringify(hostViewOf(now, null)) !== JSON.stringify(hostViewOf(before, null))) {
        throw new HoldfastError('request.changed', `Somebody else changed ${before.name} at the same time.`)
      }
      if (!otherwise || usedBy === undefined) return
      throw new HoldfastError(
        'request.in-use',
        `Operation ${usedBy} uses ${before.name}; only the way to the same machine and its secrets can be changed now.`,
      )
    })
    withEtag(c, hostViewOf(after, null))
    return c.json(hostViewOf(after, shown), 200)
  })
}

/** Where it is. */
const placed = ({ address, port, through }: SshSettings): string => JSON.stringify([address, port, through])
/** Whose files are there, and where. */
const whose = ({ user, runAs, tempDir }: SshSettings): string => JSON.stringify([runAs ?? user, tempDir])

/** What is absent stays, null takes away. */
function changed(before: StoredHost<SshSettings>, input: HostChange) {
  const { url, hostKeys = before.hostKeys, secrets: _secrets, ...asked } = input
  assertHostKeys(hostKeys)
  const named = Object.entries(asked).filter(([, value]) => value !== undefined)
  const settings: SshSettings = {
    ...before.settings,
    ...(url === undefined ? {} : sshAddress(url)),
    ...Object.fromEntries(named),
  }
  return { settings, hostKeys }
}

/** null: it does not answer. */
const shownBy = async (context: ApiContext, host: StoredHost<SshSettings>): Promise<string | null> =>
  await keyOf(context, host, await resolveSecrets(await hostSecrets(context.catalog, host.name))).catch(
    passOver,
  )
