/**
 * References to secrets that are kept elsewhere, in the place of the secret: `env:NAME`, `file:/path`, `vault:MOUNT/PATH#FIELD`.
 * Stored like a secret, with a mark that no secret begins with.
 */
export type SecretReference =
  | { manager: 'env'; name: string }
  | { manager: 'file'; path: string }
  | { manager: 'vault'; mount: string; path: string; field: string }

const mark = '\0ref '

/** undefined: not of any of the forms. */
export function parseReference(text: string): SecretReference | undefined {
  const env = /^env:([A-Za-z_][A-Za-z0-9_]{0,127})$/.exec(text)?.[1]
  // What we run with is no secret of anything else.
  if (env !== undefined && !env.startsWith('HOLDFAST_')) return { manager: 'env', name: env }
  const file = /^file:(\/[^\p{Cc}]{1,1000})$/u.exec(text)?.[1]
  if (file !== undefined) return { manager: 'file', path: file }
  const vault = /^vault:([A-Za-z0-9_-]{1,100})\/([A-Za-z0-9_.\-/]{1,500})#([A-Za-z0-9_.-]{1,100})$/.exec(text)
  const [, mount, path, field] = vault ?? []
  if (mount === undefined || path === undefined || field === undefined) return undefined
  const odd = path.split('/').some(part => ['', '.', '..'].includes(part))
  return odd ? undefined : { manager: 'vault', mount, path, field }
}

/** As it is stored in the place of the secret. */
export const storedReference = (text: string): string => `${mark}${text}`

/** The reference that is stored there; undefined for a secret itself. */
export const referenceIn = (stored: string): string | undefined =>
  stored.startsWith(mark) ? stored.slice(mark.length) : undefined
