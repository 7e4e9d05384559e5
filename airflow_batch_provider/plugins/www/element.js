// React and the router are the host's own, so that no second copy is loaded.

export const { createElement: h, Fragment, memo, useCallback, useEffect, useId, useMemo, useRef, useState } = globalThis.React;
export const { Link, useSearchParams } = globalThis.ReactRouterDOM;
