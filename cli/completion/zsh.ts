import type { Command } from 'commander'
import { sharedFunctions } from './posix.ts'

export const zshScript = (program: Command): string => `#compdef holdfast
# Completion of holdfast for zsh. Load it:  source <(holdfast completion zsh)
# or keep it as _holdfast in a directory of fpath.
${sharedFunctions(program)}
_holdfast() {
  setopt localoptions shwordsplit
  local subs opts takes args where position awaiting kind prefix candidates
  local word sub pair found index one typed program
  program=\${words[1]}
  _holdfast_walk "\${(@)words[2,CURRENT-1]}"
  _holdfast_candidates "$PREFIX" "\${(@)words[2,CURRENT]}"
  [[ -n $prefix ]] && compset -P '*='
  case $kind in
    file) _files ;;
    dir) _files -/ ;;
    *) compadd -- $candidates ;;
  esac
}
if [ "\${funcstack[1]}" = _holdfast ]; then _holdfast "$@"; else compdef _holdfast holdfast; fi
`
