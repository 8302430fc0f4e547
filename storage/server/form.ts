/** What people type for a directory of a database server: `server://HOST/directory`, the host by its name here, or `local`. */
import { z } from 'zod'
import { slugPattern } from '../../model/ids.ts'
import { invalidUri, type KindForm, parseSettings } from '../kind.ts'
import { localForm } from '../local/form.ts'

const title = "a server's directory"
const none = z.strictObject({})

export const serverForm: KindForm = {
  kind: 'server',
  title,
  schemes: ['server'],
  parse(_scheme, rest, extras) {
    parseSettings(none, extras, title)
    const [, host = '', path = ''] = /^\/\/([^/]*)(\/.*)?$/.exec(rest) ?? []
    if (host.includes('@') || host.includes(':')) {
      invalidUri('a server is named as `holdfast host list` has it; user and port belong to the host')
    }
    if (!slugPattern.test(host)) {
      invalidUri('it must look like server://HOST/directory, with the name of a host, or "local"')
    }
    if (path === '') invalidUri('a directory must be given as an absolute path: server://HOST/directory')
    const { uri } = localForm.parse('file', `//${path}`, {})
    return { uri: `server://${host}${uri.slice('file://'.length)}`, settings: {} }
  },
  secretFields: [],
  checkSecrets() {},
}

/** The host's name, and the directory as a file URI. Takes canonical URIs only. */
export function hostAndDirectory(uri: string): { host: string; directory: string } {
  const [, host = '', path = ''] = /^server:\/\/([^/]+)(\/.+)$/.exec(uri) ?? []
  return { host, directory: `file://${path}` }
}
