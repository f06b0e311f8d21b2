# gnuplot -e 'data="threads.dat"; out="threads.svg"' threads.gp
set terminal svg size 860,360 font "Helvetica,Arial,sans-serif,13" \
    background rgb "white" dynamic
set output out
set multiplot layout 1,2
set logscale x 2
set xlabel "threads" offset 0,0.4
set ylabel "CPU per event, ns" offset 1,0
set xrange [0.9:72]
set yrange [0:*]
set grid xtics ytics lc rgb "#d8d8d8"
set border 3 lc rgb "#444444"
set tics nomirror textcolor rgb "#222222"
set key bottom right samplen 2 spacing 1.1
set style line 3 lc rgb "#777777" lw 4 pt 7 ps 0.8
set style line 4 lc rgb "#2166ac" lw 2 pt 7 ps 0.6
set style line 5 lc rgb "#1b9e77" lw 2 pt 4 ps 0.5
set title "a queue for each"
plot data u 1:2 w lp ls 3 t "epoll", data u 1:3 w lp ls 4 t "kqueue (libkq)", \
    data u 1:4 w lp ls 5 t "kqueue, no data"
set title "one queue for all"
plot data u 1:5 w lp ls 3 t "epoll", data u 1:6 w lp ls 4 t "kqueue (libkq)", \
    data u 1:7 w lp ls 5 t "kqueue, no data"
unset multiplot
