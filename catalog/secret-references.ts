/** Secrets that are kept elsewhere, looked up by the process that uses them, when it does. Nothing of them is kept. */
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { type ErrorCode, HoldfastError } from '../model/errors.ts'
import { parseReference, referenceIn, type SecretReference } from '../model/secret-references.ts'

const answerMs = 10_000
const longest = 65_536

/** Throws `secret.missing`, `secret.denied`, `secret.unreachable`, naming the reference and never what it stands for. */
export async function resolveSecrets(stored: Record<string, string>): Promise<Record<string, string>> {
  const resolved: Record<string, string> = {}
  for (const [field, value] of Object.entries(stored)) resolved[field] = await resolveSecret(field, value)
  return resolved
}

export async function resolveSecret(field: string, stored: string): Promise<string> {
  const text = referenceIn(stored)
  if (text === undefined) return stored
  const reference = parseReference(text)
  const fail = (code: ErrorCode, why: string, hint: string) =>
    new HoldfastError(code, `Looking up the ${field}, ${text}: ${why}.`, { hint })
  if (!reference) throw fail('secret.missing', 'it is no reference of this version', 'Set it again.')
  const found = await lookUp(reference, fail)
  if (found.length > 0 && found.length <= longest && !found.includes('\0')) return found
  throw fail('secret.missing', 'what is there is empty or no text', 'Put the secret there.')
}

type Fail = (code: ErrorCode, why: string, hint: string) => HoldfastError

async function lookUp(reference: SecretReference, fail: Fail): Promise<string> {
  if (reference.manager === 'env') {
    const found = process.env[reference.name]
    if (found !== undefined) return found
    throw fail(
      'secret.missing',
      'the variable is not set in this process',
      `Set ${reference.name} for the API and for each worker, and start them again.`,
    )
  }
  if (reference.manager === 'file') {
    try {
      // Editors end a file with a line feed that is not part of the secret.
      return (await readFile(reference.path, 'utf8')).replace(/\r?\n$/, '')
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
      throw fail(
        code === 'EACCES' ? 'secret.denied' : 'secret.missing',
        `the file cannot be read (${code})`,
        'Put it where the API and each worker can read it.',
      )
    }
  }
  return await fromVault(reference, fail)
}

/** HashiCorp Vault and OpenBao: the newest version of a secret of a KV 2 engine. */
async function fromVault(
  { mount, path, field }: Extract<SecretReference, { manager: 'vault' }>,
  fail: Fail,
): Promise<string> {
  const { VAULT_ADDR, VAULT_NAMESPACE } = process.env
  const hint = 'Set VAULT_ADDR, and VAULT_TOKEN or VAULT_TOKEN_FILE, for the API and for each worker.'
  if (!VAULT_ADDR || !URL.canParse(VAULT_ADDR)) throw fail('secret.missing', 'VAULT_ADDR is no address', hint)
  const { protocol, hostname } = new URL(VAULT_ADDR)
  const local = ['127.0.0.1', 'localhost', '[::1]'].includes(hostname)
  if (protocol !== 'https:' && !(protocol === 'http:' && local)) {
    throw fail('secret.denied', 'VAULT_ADDR is not https', 'No token goes over plain HTTP.')
  }
  const token = await vaultToken()
  if (token === undefined) throw fail('secret.denied', 'there is no token for it', hint)
  const url = `${VAULT_ADDR.replace(/\/+$/, '')}/v1/${mount}/data/${path}`
  const headers = {
    'x-vault-token': token,
    ...(VAULT_NAMESPACE ? { 'x-vault-namespace': VAULT_NAMESPACE } : {}),
  }
  const answer = await fetch(url, {
    headers,
    // A token follows nobody to another address.
    redirect: 'error',
    signal: AbortSignal.timeout(answerMs),
  }).catch(() => undefined)
  const body: unknown = await answer?.json().catch(() => undefined)
  if (answer === undefined || answer.status >= 500 || answer.status === 429) {
    const why = answer === undefined ? 'it does not answer' : `it answered ${answer.status}`
    throw fail('secret.unreachable', why, 'Unseal or start it, or mend the way to it; it is tried again.')
  }
  if (answer.status === 403 || answer.status === 400) {
    throw fail(
      'secret.denied',
      `it refuses the token (${answer.status})`,
      `The token's policy must allow to read ${mount}/data/${path}.`,
    )
  }
  const value = (body as { data?: { data?: Record<string, unknown> } } | undefined)?.data?.data?.[field]
  if (answer.ok && typeof value === 'string') return value
  throw fail(
    'secret.missing',
    answer.ok ? `the secret has no text in ${field}` : `it answered ${answer.status}`,
    'Look at mount, path and field; the engine must be KV version 2.',
  )
}

async function vaultToken(): Promise<string | undefined> {
  const { VAULT_TOKEN, VAULT_TOKEN_FILE } = process.env
  if (VAULT_TOKEN) return VAULT_TOKEN
  const file = VAULT_TOKEN_FILE || join(homedir(), '.vault-token')
  const text = await readFile(file, 'utf8').catch(() => '')
  return text.trim() || undefined
}
