/** Certificates of a private authority, for https. */
import { readFileSync } from 'node:fs'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { HoldfastError } from '../model/errors.ts'

/** From now on this process trusts them too, beside those of the system. Throws `settings.invalid`. */
export function trustAlso(path: string): void {
  try {
    const text = readFileSync(path, 'utf8')
    if (!text.includes('-----BEGIN CERTIFICATE-----')) throw new Error('it holds none in PEM form')
    setDefaultCACertificates([...getCACertificates('default'), text])
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new HoldfastError('settings.invalid', `The certificates ${path} cannot be used: ${reason}.`, {
      hint: "Name a PEM file of the authority that signed the API's certificate (--ca, HOLDFAST_CA, the profile).",
    })
  }
}
